#include "moekit/metrics/similarity.h"

#include <vector>

#include "moekit/core/error.h"

namespace moekit::metrics {
namespace {

torch::Tensor unit_rows(const torch::Tensor& x) {
  return x / x.norm(2, -1, true).clamp_min(1e-300);
}

}  // namespace

torch::Tensor weight_cosine(const torch::Tensor& weights) {
  const auto rows = unit_rows(weights.detach().to(torch::kFloat64).flatten(1));
  return rows.matmul(rows.t());
}

torch::Tensor output_cosine(const torch::Tensor& outputs) {
  MOEKIT_CHECK(outputs.dim() == 3, "output_cosine: outputs must be [E, N, O]; got ",
               outputs.sizes());
  const auto unit = unit_rows(outputs.detach().to(torch::kFloat64));
  const auto flat = unit.flatten(1);
  return flat.matmul(flat.t()) / static_cast<double>(std::max<int64_t>(outputs.size(1), 1));
}

torch::Tensor linear_cka(const torch::Tensor& outputs) {
  MOEKIT_CHECK(outputs.dim() == 3, "linear_cka: outputs must be [E, N, O]; got ", outputs.sizes());
  auto x = outputs.detach().to(torch::kFloat64);
  x = x - x.mean(1, true);
  const int64_t experts = x.size(0);
  // |X_i' X_j|_F^2 for all pairs at once: [E * O, E * O] products, summed in blocks.
  const int64_t size = x.size(2);
  const auto wide = x.permute({1, 0, 2}).reshape({x.size(1), experts * size});
  const auto cross =
      wide.t().matmul(wide).square().reshape({experts, size, experts, size}).sum({1, 3});
  const auto norm = cross.diagonal().sqrt().clamp_min(1e-300);
  return cross / (norm.unsqueeze(0) * norm.unsqueeze(1));
}

double linear_cka_baseline(const torch::Tensor& outputs, const at::Generator& generator) {
  std::vector<torch::Tensor> shuffled;
  for (int64_t e = 0; e < outputs.size(0); ++e) {
    const auto order = torch::randperm(outputs.size(1), generator, torch::kLong);
    shuffled.push_back(outputs[e].index_select(0, order));
  }
  return mean_off_diagonal(linear_cka(torch::stack(shuffled)));
}

double mean_off_diagonal(const torch::Tensor& square) {
  const auto n = square.size(0);
  if (n < 2) return 0;
  return ((square.sum() - square.diagonal().sum()) / static_cast<double>(n * (n - 1)))
      .item<double>();
}

}  // namespace moekit::metrics
