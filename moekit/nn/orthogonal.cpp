#include "moekit/nn/orthogonal.h"

#include <vector>

#include "moekit/core/error.h"
#include "moekit/nn/precision.h"

namespace moekit::nn {
namespace {

/// Less than this share of a vector is what rounding left of it.
constexpr double kLeastShare = 1e-3;
/// Squares below it are those of zeros: float's smallest would overflow when divided by.
constexpr double kLeastSquare = 1e-30;

/// Where `square` is no more than that of zeros, 1 in its place, so that nothing is divided by 0.
torch::Tensor safe(const torch::Tensor& square) {
  return torch::where(square > kLeastSquare, square, torch::ones_like(square));
}

}  // namespace

torch::Tensor orthogonalize(const torch::Tensor& u, OrthogonalSize size) {
  MOEKIT_CHECK(u.dim() == 3, "orthogonalize: vectors must be [N, n, O]; got ", u.sizes());
  MOEKIT_CHECK(u.size(1) <= u.size(2), "orthogonalize: ", u.size(1),
               " vectors cannot be orthogonal in ", u.size(2), " dimensions");
  const auto wide = at_least_float(u);
  std::vector<torch::Tensor> done;
  std::vector<torch::Tensor> squares;
  std::vector<torch::Tensor> out;
  for (int64_t i = 0; i < u.size(1); ++i) {
    const auto own = wide.select(1, i);
    auto v = own;
    // Twice is enough: what the first pass leaves of the others is rounding. Giraud, Langou 2002.
    for (int pass = 0; pass < 2 && i > 0; ++pass) {
      for (size_t j = 0; j < done.size(); ++j) {
        v = v - (done[j] * v).sum(1, true) / squares[j] * done[j];
      }
    }
    const auto before = own.square().sum(1, true);
    auto square = v.square().sum(1, true);
    if (i > 0) {
      // Zeros have no direction to lose: they pass, with their gradient, or an expert that is zeros
      // at first would be so for ever.
      const auto real = (square.detach() > kLeastShare * kLeastShare * before.detach())
                            .logical_or(before.detach() <= kLeastSquare);
      v = torch::where(real, v, torch::zeros_like(v));
      square = torch::where(real, square, torch::zeros_like(square));
    }
    done.push_back(v);
    squares.push_back(safe(square));
    auto factor = torch::ones_like(square);
    if (size != OrthogonalSize::kKeep) factor = squares.back().rsqrt();
    if (size == OrthogonalSize::kRestore) factor = factor * safe(before).sqrt();
    out.push_back(size == OrthogonalSize::kKeep ? v : v * factor);
  }
  return torch::stack(out, 1).to(u.scalar_type());
}

double mean_cosine(const torch::Tensor& u) {
  MOEKIT_CHECK(u.dim() == 3, "mean_cosine: vectors must be [N, n, O]; got ", u.sizes());
  const auto vectors = u.detach().to(torch::kFloat64);
  const auto length = vectors.norm(2, 2, true);
  const auto real = length > 0;
  const auto unit = vectors / torch::where(real, length, torch::ones_like(length));
  const auto cosines = torch::bmm(unit, unit.transpose(1, 2)).abs();  // [N, n, n]
  const auto there = real.to(torch::kFloat64);                        // [N, n, 1]
  const auto pairs = torch::bmm(there, there.transpose(1, 2)).triu(1);
  const double count = pairs.sum().item<double>();
  return count > 0 ? (cosines * pairs).sum().item<double>() / count : 0;
}

}  // namespace moekit::nn
