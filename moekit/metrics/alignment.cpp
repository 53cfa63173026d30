#include "moekit/metrics/alignment.h"

#include "moekit/core/error.h"

namespace moekit::metrics {

torch::Tensor alignment(const torch::Tensor& weights, const torch::Tensor& directions) {
  MOEKIT_CHECK((weights.dim() == 2 || weights.dim() == 3) && directions.dim() == 2 &&
                   weights.size(-1) == directions.size(1),
               "alignment: weights must be [E, d] or [E, J, d] and directions [K, d]; got ",
               weights.sizes(), " and ", directions.sizes());
  const auto products = weights.to(torch::kFloat64).matmul(directions.to(torch::kFloat64).t());
  return products.dim() == 3 ? std::get<0>(products.abs().max(1)) : products;
}

double alignment_ratio(const torch::Tensor& first, const torch::Tensor& second,
                       const torch::Tensor& used) {
  const auto rows = used.nonzero().squeeze(1);
  if (rows.numel() == 0) return 0;
  const auto top = std::get<0>(first.index_select(0, rows).max(1));
  const auto against = std::get<0>(second.index_select(0, rows).abs().max(1));
  return (top / against.clamp_min(1e-30)).median().item<double>();
}

int64_t directions_covered(const torch::Tensor& aligned, const torch::Tensor& used) {
  const auto rows = used.nonzero().squeeze(1);
  if (rows.numel() == 0) return 0;
  const auto best = aligned.index_select(0, rows).argmax(1);
  return torch::bincount(best).ne(0).sum().item<int64_t>();
}

}  // namespace moekit::metrics
