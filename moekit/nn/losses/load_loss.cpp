#include "moekit/nn/losses/load_loss.h"

#include <torch/types.h>

#include <cmath>

#include "moekit/core/error.h"
#include "moekit/nn/losses/importance_loss.h"
#include "moekit/nn/top_k.h"

namespace moekit::nn {

torch::Tensor load_loss(const Routing& routing) {
  MOEKIT_CHECK(routing.noise_std.defined() && routing.clean_logits.defined(),
               "load_loss: needs a router with Gaussian noise, in training");
  const int64_t k = routing.top_k();
  MOEKIT_CHECK(k > 0, "load_loss: needs a router that sends every token to K experts");
  MOEKIT_CHECK(k < routing.num_experts(), "load_loss: needs top_k < num_experts; got ", k, " of ",
               routing.num_experts());
  // The K-th largest of the other noisy logits: the (K+1)-th largest of all for a chosen expert,
  // the K-th for the rest.
  const auto noisy = at_least_float(routing.logits.detach());
  const auto largest = noisy.gather(1, top_k_index(routing.logits, k + 1));
  const auto threshold_in = largest.narrow(1, k, 1);
  const auto threshold_out = largest.narrow(1, k - 1, 1);
  const auto chosen = torch::zeros_like(noisy, torch::kBool).scatter(1, routing.expert_index, true);
  const auto threshold = torch::where(chosen, threshold_in, threshold_out);
  const auto z = (at_least_float(routing.clean_logits) - threshold) /
                 at_least_float(routing.noise_std).clamp_min(1e-6);
  const auto probability = 0.5 * (1 + torch::erf(z / std::sqrt(2.0)));
  return squared_variation(probability.sum(0));
}

void check_load_loss(const LoadLossOptions& options, const LossSite& site,
                     const std::string& where) {
  check_router_learns(options.load, site, where + ".load");
  if (options.load == 0) return;
  for (const auto& layer : site.layers) {
    if (layer.router == nullptr) continue;
    const auto traits = layer.router->traits();
    MOEKIT_CHECK(
        traits.gaussian_noise && traits.top_k > 0 && traits.top_k < layer.router->num_experts(),
        where, ".load = ", options.load,
        " wants a router with noise = \"gaussian\" and a top_k below its number of experts");
  }
}

AuxLoss make_load_loss(const LoadLossOptions& options, const LossSite& /*site*/) {
  return make_aux_loss("load", options.load,
                       [](const AuxLossInput& in) { return load_loss(in.routing); });
}

}  // namespace moekit::nn
