#include "moekit/nn/routers/trunk.h"

namespace moekit::nn {
torch::nn::AnyModule register_trunk(torch::nn::Module& owner, const torch::nn::AnyModule& trunk) {
  if (trunk.is_empty()) return {};
  auto copy = trunk.clone();
  owner.register_module("trunk", copy.ptr());
  return copy;
}

torch::Tensor run_trunk(torch::nn::AnyModule& trunk, const torch::Tensor& tokens) {
  return trunk.is_empty() ? tokens : trunk.forward(tokens);
}

void reset_trunk(const torch::nn::AnyModule& trunk, const at::Generator& generator) {
  if (trunk.is_empty()) return;
  if (auto* module = dynamic_cast<Initializable*>(trunk.ptr().get())) {
    module->reset_parameters(generator);
  }
}

}  // namespace moekit::nn
