#pragma once

#include <torch/autograd.h>

namespace moekit::nn {

/// What the backward pass of a node of ours gives when it is itself to be differentiated
/// (`create_graph`): kernels leave no graph behind, so the node's value is computed again out of
/// operations that do, and differentiated. Whoever writes a node calls this wherever
/// `at::GradMode::is_enabled()` in backward().
/// @param inputs   the node's tensors as they were saved; they keep their place in the graph
/// @param compose  the node's value out of tensors that stand for them
/// @return a gradient for each input, undefined where it takes none
template <typename Compose>
torch::autograd::variable_list composed_gradient(const torch::autograd::variable_list& inputs,
                                                 const torch::Tensor& grad_output,
                                                 const Compose& compose) {
  // Views, because an input may depend on another one (combine weights on tokens): the derivative
  // is to be partial, and that path is the outer pass's to follow.
  torch::autograd::variable_list views;
  torch::autograd::variable_list wanted;
  for (const auto& input : inputs) {
    views.push_back(input.defined() ? input.view_as(input) : input);
    if (input.defined() && input.requires_grad()) wanted.push_back(views.back());
  }
  torch::autograd::variable_list out(inputs.size());
  if (wanted.empty()) return out;
  const auto found = torch::autograd::grad({compose(views)}, wanted, {grad_output},
                                           /*retain_graph=*/true, /*create_graph=*/true,
                                           /*allow_unused=*/true);
  auto next = found.begin();
  for (size_t i = 0; i < inputs.size(); ++i) {
    if (inputs[i].defined() && inputs[i].requires_grad()) out[i] = *next++;
  }
  return out;
}

}  // namespace moekit::nn
