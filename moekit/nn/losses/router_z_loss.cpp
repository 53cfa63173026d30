#include "moekit/nn/losses/router_z_loss.h"

#include "moekit/core/error.h"

namespace moekit::nn {

torch::Tensor router_z_loss(const torch::Tensor& logits) {
  MOEKIT_CHECK(logits.dim() == 2, "router_z_loss: logits must be [N, E]; got ", logits.sizes());
  if (logits.size(0) == 0) return logits.sum();
  return torch::logsumexp(logits, 1).square().mean();
}

}  // namespace moekit::nn
