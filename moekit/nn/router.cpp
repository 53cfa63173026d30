#include "moekit/nn/router.h"

#include "moekit/core/error.h"

namespace moekit::nn {

RouterContext RouterContext::select(const torch::Tensor& rows) const {
  RouterContext out = *this;
  const auto take = [&](torch::Tensor& of, int64_t dim) {
    if (of.defined()) of = of.index_select(dim, rows);
  };
  take(out.task_id, 0);
  take(out.token_id, 0);
  take(out.sequence, 0);
  take(out.previous_logits, 0);
  take(out.expert_features, 1);
  out.mask = torch::Tensor();
  return out;
}

void check_trainable(const RouterTraits& traits, const std::string& why, const std::string& where) {
  if (!traits.learns) return;
  MOEKIT_CHECK(why.empty() || traits.aux_only, where, why,
               ": the task's loss cannot train the router. Take combine_weights = \"probs\" with "
               "more than one expert, or aux_only = true where losses on routing alone train it");
  MOEKIT_CHECK(!why.empty() || !traits.aux_only, where,
               "aux_only = true: this router gets a gradient from the task's loss; wanted false");
}

void check_top_k(int64_t top_k, int64_t num_experts, const std::string& where) {
  MOEKIT_CHECK(top_k >= 0 && top_k <= num_experts, where, "top_k must be 0 (all) or 1..",
               num_experts, " (num_experts); got ", top_k);
}

}  // namespace moekit::nn
