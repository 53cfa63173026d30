#include "moekit/nn/losses/balance_loss.h"

#include "moekit/core/error.h"

namespace moekit::nn {

torch::Tensor load_balance_loss(const torch::Tensor& probs, const torch::Tensor& expert_index) {
  MOEKIT_CHECK(probs.dim() == 2 && expert_index.dim() == 2 && expert_index.size(0) == probs.size(0),
               "load_balance_loss: probs must be [N, E] and expert_index [N, K]; got ",
               probs.sizes(), " and ", expert_index.sizes());
  const int64_t num_experts = probs.size(1);
  if (probs.size(0) == 0) return probs.sum();
  const auto sums = probs.detach().sum(1);
  MOEKIT_CHECK(torch::allclose(sums, torch::ones_like(sums), 1e-3, 1e-3),
               "load_balance_loss: every row of probs must sum to 1; the first sums to ",
               sums[0].item<double>(), " (were logits given?)");
  const auto counts = torch::bincount(expert_index.reshape({-1}), {}, num_experts);
  const auto fraction = counts.to(probs.scalar_type()) / static_cast<double>(expert_index.numel());
  return static_cast<double>(num_experts) * (fraction * probs.mean(0)).sum();
}

}  // namespace moekit::nn
