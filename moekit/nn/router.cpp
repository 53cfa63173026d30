#include "moekit/nn/router.h"

#include "moekit/core/error.h"

namespace moekit::nn {

RouterContext RouterContext::select(const torch::Tensor& rows) const {
  RouterContext out = *this;
  const auto take = [&](torch::Tensor& of, int64_t dim) {
    if (of.defined()) of = of.index_select(dim, rows);
  };
  take(out.task_id, 0);
  take(out.previous_logits, 0);
  take(out.expert_features, 1);
  out.mask = torch::Tensor();
  return out;
}

void check_top_k(int64_t top_k, int64_t num_experts, const std::string& where) {
  MOEKIT_CHECK(top_k >= 0 && top_k <= num_experts, where, "top_k must be 0 (all) or 1..",
               num_experts, " (num_experts); got ", top_k);
}

}  // namespace moekit::nn
