#include "moekit/nn/losses/balance_loss.h"

#include "moekit/core/error.h"

namespace moekit::nn {

torch::Tensor load_balance_loss(const torch::Tensor& probs, const torch::Tensor& expert) {
  MOEKIT_CHECK(probs.dim() == 2 && expert.dim() == 1,
               "load_balance_loss: probs must be [N, E] and expert [A]; got ", probs.sizes(),
               " and ", expert.sizes());
  const int64_t num_experts = probs.size(1);
  if (expert.size(0) == 0) return probs.sum() * 0;
  const auto sums = probs.detach().sum(1);
  MOEKIT_CHECK(torch::allclose(sums, torch::ones_like(sums), 1e-3, 1e-3),
               "load_balance_loss: every row of probs must sum to 1; the first sums to ",
               sums[0].item<double>(), " (were logits given?)");
  const auto counts = torch::bincount(expert, {}, num_experts);
  const auto fraction = counts.to(probs.scalar_type()) / static_cast<double>(expert.numel());
  return static_cast<double>(num_experts) * (fraction * probs.mean(0)).sum();
}

void check_balance_loss(const BalanceLossOptions& options, const LossSite& site,
                        const std::string& where) {
  check_router_learns(options.balance, site, where + ".balance");
}

AuxLoss make_balance_loss(const BalanceLossOptions& options, const LossSite& /*site*/) {
  return make_aux_loss("balance", options.balance, [](const AuxLossInput& in) {
    return load_balance_loss(in.routing.probs, in.routing.expert);
  });
}

}  // namespace moekit::nn
