#include "moekit/nn/losses/entropy_loss.h"

#include "moekit/core/error.h"

namespace moekit::nn {

torch::Tensor entropy_loss(const torch::Tensor& logits) {
  MOEKIT_CHECK(logits.dim() == 2, "entropy_loss: logits must be [N, E]; got ", logits.sizes());
  if (logits.size(0) == 0) return at_least_float(logits).sum();
  const auto log_probs = torch::log_softmax(at_least_float(logits), 1);
  // A logit of -infinity gives 0 * -infinity = NaN; its share of the entropy is 0.
  return -(log_probs.exp() * log_probs.clamp_min(-1e4)).sum(1).mean();
}

void check_entropy_loss(const EntropyLossOptions& options, const LossSite& site,
                        const std::string& where) {
  check_router_learns(options.entropy, site, where + ".entropy");
}

AuxLoss make_entropy_loss(const EntropyLossOptions& options, const LossSite& /*site*/) {
  return make_aux_loss("entropy", options.entropy,
                       [](const AuxLossInput& in) { return entropy_loss(in.routing.logits); });
}

}  // namespace moekit::nn
