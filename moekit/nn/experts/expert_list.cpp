#include "moekit/nn/experts/expert_list.h"

#include "moekit/core/error.h"

namespace moekit::nn {

ExpertListImpl::ExpertListImpl(std::vector<torch::nn::AnyModule> experts_, int64_t output_size)
    : experts(std::move(experts_)), output_size_(output_size) {
  MOEKIT_CHECK(!experts.empty(), "ExpertList: needs at least one expert");
  reset();
}

void ExpertListImpl::reset() {
  for (size_t e = 0; e < experts.size(); ++e) {
    experts[e] = experts[e].clone();
    register_module(std::to_string(e), experts[e].ptr());
  }
}

void ExpertListImpl::reset_parameters(const at::Generator& generator) {
  for (auto& expert : experts) {
    if (auto* module = dynamic_cast<Initializable*>(expert.ptr().get())) {
      module->reset_parameters(generator);
    }
  }
}

torch::Tensor ExpertListImpl::run(size_t expert, const torch::Tensor& tokens) {
  torch::Tensor out = experts[expert].forward(tokens);
  MOEKIT_CHECK(out.dim() == 2 && out.size(0) == tokens.size(0) && out.size(1) == output_size_,
               "ExpertList: expert ", expert, " must give [", tokens.size(0), ", ", output_size_,
               "]; got ", out.sizes());
  return out;
}

ExpertOutput ExpertListImpl::forward_all(const torch::Tensor& tokens) {
  std::vector<torch::Tensor> outputs;
  for (size_t e = 0; e < experts.size(); ++e) outputs.push_back(run(e, tokens));
  return {torch::stack(outputs), {}};
}

torch::Tensor ExpertListImpl::forward_routed(const torch::Tensor& rows, const RoutingPlan& plan) {
  std::vector<torch::Tensor> outputs;
  for (size_t e = 0; e < experts.size(); ++e) {
    const int64_t count = plan.count(static_cast<int64_t>(e));
    if (count > 0) outputs.push_back(run(e, rows.narrow(0, plan.offsets[e], count)));
  }
  return outputs.empty() ? rows.new_empty({0, output_size_}) : torch::cat(outputs);
}

void ExpertListImpl::take_experts(ExpertEdit& edit) {
  std::vector<torch::nn::AnyModule> taken;
  std::vector<bool> kept(experts.size(), false);
  for (int64_t i = 0; i < edit.index.numel(); ++i) {
    const auto source = static_cast<size_t>(edit.index[i].item<int64_t>());
    taken.push_back(kept[source] ? experts[source].clone() : experts[source]);
    if (kept[source]) {
      const auto from = experts[source].ptr()->named_parameters();
      for (auto& item : taken.back().ptr()->named_parameters()) {
        item.value().set_requires_grad(from[item.key()].requires_grad());  // clone() forgets it
        edit.copies.emplace_back(item.value(), from[item.key()]);
      }
    }
    kept[source] = true;
  }
  for (size_t e = 0; e < experts.size(); ++e) {
    if (kept[e]) continue;
    for (const auto& parameter : experts[e].ptr()->parameters()) edit.removed.push_back(parameter);
  }
  edit.then([this, taken] {
    for (size_t e = 0; e < experts.size(); ++e) unregister_module(std::to_string(e));
    experts = taken;
    for (size_t e = 0; e < experts.size(); ++e) {
      register_module(std::to_string(e), experts[e].ptr());
    }
  });
}

std::vector<std::vector<torch::Tensor>> ExpertListImpl::separate_parameters() const {
  std::vector<std::vector<torch::Tensor>> parameters;
  for (const auto& expert : experts) parameters.push_back(expert.ptr()->parameters());
  return parameters;
}

}  // namespace moekit::nn
