#include "moekit/metrics/similarity.h"

#include <limits>

#include "moekit/core/error.h"
#include "moekit/metrics/checks.h"

namespace moekit::metrics {
namespace {

torch::Tensor unit_rows(const torch::Tensor& x) {
  return x / x.norm(2, -1, true).clamp_min(1e-300);
}

}  // namespace

torch::Tensor weight_cosine(const torch::Tensor& weights) {
  MOEKIT_CHECK(weights.dim() >= 2, "weight_cosine: weights must be [E, ...]; got ",
               weights.sizes());
  check_numbers("weight_cosine", "weights", weights);
  const auto rows = unit_rows(weights.detach().to(torch::kFloat64).flatten(1));
  return rows.matmul(rows.t());
}

torch::Tensor output_cosine(const torch::Tensor& outputs) {
  MOEKIT_CHECK(outputs.dim() == 3, "output_cosine: outputs must be [E, N, O]; got ",
               outputs.sizes());
  check_numbers("output_cosine", "outputs", outputs);
  const auto unit = unit_rows(outputs.detach().to(torch::kFloat64));
  const auto flat = unit.flatten(1);
  return flat.matmul(flat.t()) / static_cast<double>(std::max<int64_t>(outputs.size(1), 1));
}

torch::Tensor linear_cka(const torch::Tensor& outputs, CkaEstimator estimator) {
  MOEKIT_CHECK(outputs.dim() == 3 && outputs.size(2) >= 1,
               "linear_cka: outputs must be [E, N, O] with O >= 1; got ", outputs.sizes());
  check_numbers("linear_cka", "outputs", outputs);
  constexpr double kNaN = std::numeric_limits<double>::quiet_NaN();
  const int64_t experts = outputs.size(0);
  const int64_t tokens = outputs.size(1);
  const int64_t size = outputs.size(2);
  const bool unbiased = estimator == CkaEstimator::kUnbiased;
  if (experts == 0 || tokens < (unbiased ? 4 : 2)) {
    return torch::full({experts, experts}, kNaN, torch::kFloat64);
  }
  auto x = outputs.detach().to(torch::kFloat64);
  x = x / x.abs().amax({1, 2}, true).clamp_min(std::numeric_limits<double>::min());
  x = x - x.mean(1, true);
  // |X_i' X_j|_F^2 for all pairs at once: [E * O, E * O] products, summed in blocks.
  const auto wide = x.permute({1, 0, 2}).reshape({tokens, experts * size});
  const auto biased =
      wide.t().matmul(wide).square().reshape({experts, size, experts, size}).sum({1, 3});
  const auto lengths = x.square().sum(2);  // [E, N]: the diagonals of the kernels X X'
  const auto total = lengths.sum(1);
  auto cross = biased;
  if (unbiased) {
    // n (n - 3) HSIC_1. With centred rows K1 = 0, so that without its diagonal K1 = -lengths.
    const auto n = static_cast<double>(tokens);
    cross = biased - lengths.matmul(lengths.t()) * (n / (n - 2)) +
            torch::outer(total, total) / ((n - 1) * (n - 2));
  }
  // What is left of a constant by rounding is none: entries are at most 1, and lose 1e-16 each.
  const auto constant = total.le(static_cast<double>(tokens * size) * 1e-24)
                            .logical_or(cross.diagonal().le(biased.diagonal() * 1e-10));
  const auto norm = cross.diagonal().clamp_min(0).sqrt().masked_fill(constant, kNaN);
  return cross / (norm.unsqueeze(0) * norm.unsqueeze(1));
}

double linear_cka_baseline(const torch::Tensor& outputs, CkaEstimator estimator,
                           const at::Generator& generator) {
  MOEKIT_CHECK(outputs.dim() == 3, "linear_cka_baseline: outputs must be [E, N, O]; got ",
               outputs.sizes());
  auto shuffled = torch::empty_like(outputs);
  for (int64_t e = 0; e < outputs.size(0); ++e) {
    const auto order = torch::randperm(outputs.size(1), generator, torch::kLong);
    shuffled[e].copy_(outputs.detach()[e].index_select(0, order));
  }
  return mean_off_diagonal(linear_cka(shuffled, estimator)).value;
}

PairMean mean_off_diagonal(const torch::Tensor& square) {
  MOEKIT_CHECK(square.dim() == 2 && square.size(0) == square.size(1),
               "mean_off_diagonal: the table must be [E, E]; got ", square.sizes());
  const auto n = square.size(0);
  const auto counts =
      torch::isnan(square).logical_not().logical_and(torch::eye(n, torch::kBool).logical_not());
  PairMean out{};
  out.counted = counts.sum().item<int64_t>();
  out.left_out = n * (n - 1) - out.counted;
  out.value = out.counted > 0 ? square.masked_select(counts).mean().item<double>()
                              : std::numeric_limits<double>::quiet_NaN();
  return out;
}

}  // namespace moekit::metrics
