#include "moekit/metrics/alignment.h"

#include "moekit/core/error.h"
#include "moekit/metrics/checks.h"

namespace moekit::metrics {
namespace {

/// The rows of the experts in use.
torch::Tensor used_rows(const char* who, const torch::Tensor& aligned, const torch::Tensor& used) {
  MOEKIT_CHECK(aligned.dim() == 2 && aligned.size(1) >= 1 && used.dim() == 1 &&
                   used.scalar_type() == torch::kBool && used.size(0) == aligned.size(0),
               who, ": products must be [E, K] with K >= 1 and used [E] bool; got ",
               aligned.sizes(), " and ", used.sizes(), " ", used.dtype());
  check_numbers(who, "products", aligned);
  return aligned.index_select(0, used.nonzero().squeeze(1));
}

}  // namespace

torch::Tensor alignment(const torch::Tensor& weights, const torch::Tensor& directions) {
  MOEKIT_CHECK((weights.dim() == 2 || weights.dim() == 3) && directions.dim() == 2 &&
                   weights.size(-1) == directions.size(1),
               "alignment: weights must be [E, d] or [E, J, d] and directions [K, d]; got ",
               weights.sizes(), " and ", directions.sizes());
  MOEKIT_CHECK(weights.dim() == 2 || weights.size(1) >= 1, "alignment: weights ", weights.sizes(),
               " hold no filter");
  check_numbers("alignment", "weights", weights);
  check_numbers("alignment", "directions", directions);
  const auto products = weights.to(torch::kFloat64).matmul(directions.to(torch::kFloat64).t());
  return products.dim() == 3 ? std::get<0>(products.abs().max(1)) : products;
}

double alignment_ratio(const torch::Tensor& first, const torch::Tensor& second,
                       const torch::Tensor& used) {
  const auto own = used_rows("alignment_ratio", first, used);
  const auto other = used_rows("alignment_ratio", second, used);
  if (own.size(0) == 0) return 0;
  const auto top = std::get<0>(own.max(1));
  const auto against = std::get<0>(other.abs().max(1));
  return (top / against.clamp_min(1e-30)).median().item<double>();
}

int64_t directions_covered(const torch::Tensor& aligned, const torch::Tensor& used) {
  const auto rows = used_rows("directions_covered", aligned, used);
  if (rows.size(0) == 0) return 0;
  const auto best = rows.argmax(1);
  return torch::bincount(best).ne(0).sum().item<int64_t>();
}

}  // namespace moekit::metrics
