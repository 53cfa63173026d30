#include "moekit/nn/experts.h"

#include <algorithm>

namespace moekit::nn {

bool is_one_of(const torch::Tensor& tensor, const std::vector<torch::Tensor>& list) {
  return std::any_of(list.begin(), list.end(),
                     [&](const torch::Tensor& other) { return tensor.is_same(other); });
}

torch::Tensor forward_each(ExpertsImpl& experts, const torch::Tensor& rows,
                           const torch::Tensor& expert) {
  const auto plan = make_plan(expert.unsqueeze(1), experts.num_experts());
  const auto whole = torch::ones({rows.size(0)}, rows.options().requires_grad(false));
  if (experts.why_not_fused(rows).empty()) {
    return experts.forward_fused(rows, plan, whole, Runtime::standard());
  }
  return combine(experts.forward_dispatched(rows, plan), plan, whole);
}

ExpertTensors expert_tensors(const ExpertsImpl& experts, int64_t expert) {
  MOEKIT_CHECK(expert >= 0 && expert < experts.num_experts(), "expert_tensors: expert ", expert,
               "; there are ", experts.num_experts());
  ExpertTensors tensors;
  // Experts that are modules of their own are registered under their number.
  const bool separate = !experts.separate_parameters().empty();
  const std::string own = std::to_string(expert) + ".";
  const auto shared = experts.shared_parameters();
  const auto add = [&](const std::string& name, const torch::Tensor& tensor) {
    if (is_one_of(tensor, shared)) return;
    if (!separate) {
      tensors.emplace_back(name, tensor.detach()[expert]);
    } else if (name.compare(0, own.size(), own) == 0) {
      tensors.emplace_back(name.substr(own.size()), tensor.detach());
    }
  };
  for (const auto& item : experts.named_parameters()) add(item.key(), item.value());
  for (const auto& item : experts.named_buffers()) add(item.key(), item.value());
  return tensors;
}

}  // namespace moekit::nn
