#include "moekit/nn/losses/router_z_loss.h"

#include "moekit/core/error.h"

namespace moekit::nn {

torch::Tensor router_z_loss(const torch::Tensor& logits) {
  MOEKIT_CHECK(logits.dim() == 2, "router_z_loss: logits must be [N, E]; got ", logits.sizes());
  if (logits.size(0) == 0) return at_least_float(logits).sum();
  return torch::logsumexp(at_least_float(logits), 1).square().mean();
}

void check_router_z_loss(const RouterZLossOptions& options, const LossSite& site,
                         const std::string& where) {
  check_router_learns(options.router_z, site, where + ".router_z");
}

AuxLoss make_router_z_loss(const RouterZLossOptions& options, const LossSite& /*site*/) {
  return make_aux_loss("router_z", options.router_z,
                       [](const AuxLossInput& in) { return router_z_loss(in.routing.logits); });
}

}  // namespace moekit::nn
