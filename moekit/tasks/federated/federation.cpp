#include "moekit/tasks/federated/federation.h"

#include <torch/torch.h>

namespace moekit::federated {
namespace {

void write(const nn::MlpExperts& bank, int64_t expert, const merge::WeightSet& weights) {
  const torch::NoGradGuard no_grad;
  const auto own = nn::expert_tensors(*bank, expert);
  for (size_t t = 0; t < own.size(); ++t) own[t].second.copy_(weights[t].second);
}

}  // namespace

Federation::Federation(const nn::MlpExpertsOptions& net, int64_t memory,
                       const at::Generator& generator) {
  const auto bank = [&](const char* name, int64_t networks) {
    auto made =
        register_module(name, nn::MlpExperts(nn::MlpExpertsOptions(net).num_experts(networks)));
    for (auto& parameter : made->parameters()) parameter.set_requires_grad(false);
    return made;
  };
  global_ = bank("global", 1);
  global_->reset_parameters(generator);
  control_ = bank("control", 1);
  write(control_, 0, global());
  if (memory == 0) return;
  past_ = bank("past", memory);
  for (int64_t i = 0; i < memory; ++i) write(past_, i, global());
}

merge::WeightSet Federation::past(int64_t round) const {
  if (past_.is_empty()) return {};
  return nn::expert_tensors(*past_, round % past_->num_experts());
}

void Federation::move_on(int64_t round, const merge::WeightSet& next_global,
                         const merge::WeightSet& next_control) {
  if (!past_.is_empty()) write(past_, round % past_->num_experts(), global());
  write(global_, 0, next_global);
  write(control_, 0, next_control);
}

int64_t Federation::parameters_of_one() const {
  int64_t count = 0;
  for (const auto& [name, tensor] : global()) count += tensor.numel();
  return count;
}

Judged judge(const merge::WeightSet& weights, const nn::MlpExpertsOptions& net,
             const torch::Tensor& pixels, const torch::Tensor& labels) {
  const torch::NoGradGuard no_grad;
  nn::MlpExperts one(nn::MlpExpertsOptions(net).num_experts(1));
  write(one, 0, weights);
  const auto log_probs = torch::log_softmax(one->forward_all(pixels).values[0], 1);
  const auto right = log_probs.argmax(1).eq(labels).sum().item<int64_t>();
  return {static_cast<double>(right) / static_cast<double>(labels.size(0)),
          torch::nll_loss(log_probs, labels).item<double>()};
}

}  // namespace moekit::federated
