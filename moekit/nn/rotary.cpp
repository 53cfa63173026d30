#include "moekit/nn/rotary.h"

#include <cmath>

#include "moekit/core/error.h"
#include "moekit/nn/precision.h"

namespace moekit::nn {

RotaryTable rotary_table(int64_t positions, int64_t size, double theta) {
  MOEKIT_CHECK(positions >= 0 && size >= 2 && size % 2 == 0 && theta > 0 && std::isfinite(theta),
               "rotary_table: wanted an even size of at least 2 and theta > 0; got ", size, " and ",
               theta);
  // In double: an angle of thousands of turns keeps its place in the circle.
  const auto pair = torch::arange(0, size, 2, torch::kFloat64) / static_cast<double>(size);
  const auto angle = torch::arange(positions, torch::kFloat64).unsqueeze(1) *
                     torch::exp(pair * -std::log(theta)).unsqueeze(0);
  return {angle.cos().to(torch::kFloat32), angle.sin().to(torch::kFloat32)};
}

torch::Tensor apply_rotary(const torch::Tensor& x, const RotaryTable& table, int64_t first) {
  const int64_t half = table.cosine.size(1);
  MOEKIT_CHECK(x.dim() == 4 && x.size(3) >= 2 * half && first >= 0 &&
                   first + x.size(1) <= table.cosine.size(0),
               "apply_rotary: x must be [B, T, H, d], with d >= ", 2 * half,
               " and positions up to ", table.cosine.size(0), "; got ", x.sizes(),
               " from position ", first);
  const auto rows = [&](const torch::Tensor& of) {
    return of.narrow(0, first, x.size(1)).unsqueeze(1);  // [T, 1, r/2]
  };
  const auto cosine = rows(table.cosine);
  const auto sine = rows(table.sine);
  const auto wide = at_least_float(x);
  const auto a = wide.narrow(3, 0, half);
  const auto b = wide.narrow(3, half, half);
  std::vector<torch::Tensor> parts = {a * cosine - b * sine, b * cosine + a * sine};
  if (x.size(3) > 2 * half) parts.push_back(wide.narrow(3, 2 * half, x.size(3) - 2 * half));
  return torch::cat(parts, 3).to(x.scalar_type());
}

}  // namespace moekit::nn
