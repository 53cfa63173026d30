#include "moekit/nn/routers/projection_router.h"

#include "moekit/core/error.h"
#include "moekit/nn/precision.h"

namespace moekit::nn {

void ProjectionRouterImpl::register_weight(int64_t num_experts, int64_t hidden_size) {
  weight = register_parameter("weight", torch::empty({num_experts, hidden_size}));
}

void ProjectionRouterImpl::reset_parameters(const at::Generator& generator) {
  init_uniform_fan_in(weight, weight.size(1), generator);
}

torch::Tensor ProjectionRouterImpl::logits_of(const char* who, const torch::Tensor& tokens) const {
  MOEKIT_CHECK(tokens.dim() == 2 && tokens.size(1) == weight.size(1), who, ": tokens must be [N, ",
               weight.size(1), "]; got ", tokens.sizes());
  const auto type = compute_type(tokens, weight);
  return torch::linear(tokens.to(type), weight.to(type));
}

}  // namespace moekit::nn
