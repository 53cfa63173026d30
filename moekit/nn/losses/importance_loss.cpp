#include "moekit/nn/losses/importance_loss.h"

#include "moekit/core/error.h"

namespace moekit::nn {

torch::Tensor squared_variation(const torch::Tensor& values) {
  if (values.numel() < 2) return values.sum() * 0;
  const auto mean = values.mean();
  // A mean of 0 has no spread to divide by: the result is 0, and so is its gradient.
  const auto safe = torch::where(mean == 0, torch::ones_like(mean), mean);
  return torch::var(values, /*dim=*/0, /*unbiased=*/true) / safe.square();
}

torch::Tensor importance_loss(const torch::Tensor& probs) {
  MOEKIT_CHECK(probs.dim() == 2, "importance_loss: probs must be [N, E]; got ", probs.sizes());
  return squared_variation(at_least_float(probs).sum(0));
}

void check_importance_loss(const ImportanceLossOptions& options, const LossSite& site,
                           const std::string& where) {
  check_router_learns(options.importance, site, where + ".importance");
}

AuxLoss make_importance_loss(const ImportanceLossOptions& options, const LossSite& /*site*/) {
  return make_aux_loss("importance", options.importance,
                       [](const AuxLossInput& in) { return importance_loss(in.routing.probs); });
}

}  // namespace moekit::nn
