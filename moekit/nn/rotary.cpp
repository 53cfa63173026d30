#include "moekit/nn/rotary.h"

#include <torch/autograd.h>

#include <algorithm>
#include <cmath>

#include "moekit/core/error.h"
#include "moekit/nn/precision.h"

namespace moekit::nn {
namespace {

/// A head's channels turned by the angles whose cosines and sines are given, `half` of each.
void turn(const float* from, const float* cosine, const float* sine, int64_t half, int64_t size,
          float* to) {
  for (int64_t i = 0; i < half; ++i) {
    to[i] = from[i] * cosine[i] - from[half + i] * sine[i];
    to[half + i] = from[half + i] * cosine[i] + from[i] * sine[i];
  }
  std::copy(from + 2 * half, from + size, to + 2 * half);
}

/// Every pair is read and written once, where libtorch's operations make nine passes. The gradient
/// is turned back: by the same cosines and the negative sines.
class Rotary : public torch::autograd::Function<Rotary> {
 public:
  /// @param x [B, T, H, d] float32 @param cosine, sine [T, r/2] float32, contiguous
  static torch::Tensor forward(torch::autograd::AutogradContext* ctx, const torch::Tensor& x,
                               const torch::Tensor& cosine, const torch::Tensor& sine) {
    ctx->saved_data["cosine"] = cosine;
    ctx->saved_data["sine"] = sine;
    const auto rows = x.contiguous();
    auto out = torch::empty(x.sizes(), x.options());
    const int64_t half = cosine.size(1);
    const float* from = rows.data_ptr<float>();
    auto* to = out.data_ptr<float>();
    for (int64_t b = 0; b < x.size(0); ++b) {
      for (int64_t t = 0; t < x.size(1); ++t) {
        const float* c = cosine.data_ptr<float>() + t * half;
        const float* s = sine.data_ptr<float>() + t * half;
        for (int64_t h = 0; h < x.size(2); ++h, from += x.size(3), to += x.size(3)) {
          turn(from, c, s, half, x.size(3), to);
        }
      }
    }
    return out;
  }
  static torch::autograd::variable_list backward(torch::autograd::AutogradContext* ctx,
                                                 torch::autograd::variable_list grads) {
    return {apply(grads[0], ctx->saved_data["cosine"].toTensor(),
                  ctx->saved_data["sine"].toTensor().neg()),
            torch::Tensor(), torch::Tensor()};
  }
};

}  // namespace

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
  auto cosine = table.cosine.narrow(0, first, x.size(1)).contiguous();  // [T, r/2]
  auto sine = table.sine.narrow(0, first, x.size(1)).contiguous();
  if (x.is_cpu() && x.scalar_type() == torch::kFloat32) return Rotary::apply(x, cosine, sine);
  cosine = cosine.unsqueeze(1);
  sine = sine.unsqueeze(1);
  const auto wide = at_least_float(x);
  const auto a = wide.narrow(3, 0, half);
  const auto b = wide.narrow(3, half, half);
  std::vector<torch::Tensor> parts = {a * cosine - b * sine, b * cosine + a * sine};
  if (x.size(3) > 2 * half) parts.push_back(wide.narrow(3, 2 * half, x.size(3) - 2 * half));
  return torch::cat(parts, 3).to(x.scalar_type());
}

}  // namespace moekit::nn
