#include "moekit/nn/expert_edit.h"

#include <torch/csrc/autograd/function_hook.h>
#include <torch/csrc/autograd/variable.h>

#include "moekit/core/error.h"

namespace moekit::nn {
namespace {

/// Stands before the gradient of a parameter in graphs that are out of date.
struct RefuseOldGraph : torch::autograd::FunctionPreHook {
  torch::autograd::variable_list operator()(const torch::autograd::variable_list&) override {
    throw ArgumentError(
        "backward: this graph was made before the experts of a layer were changed "
        "(take_experts); run forward again");
  }
};

/// Gives a parameter other data. A graph that is alive holds the parameter itself, and would read
/// the new rows as if they were the old ones: its gradient node is barred and replaced, and a new
/// version number makes libtorch refuse what such a graph saved.
void replace_data(torch::Tensor& tensor, const torch::Tensor& data) {
  if (const auto node = torch::autograd::impl::try_get_grad_accumulator(tensor)) {
    node->add_pre_hook(std::make_unique<RefuseOldGraph>());
    torch::autograd::impl::set_grad_accumulator(tensor, {});
  }
  tensor.mutable_grad().reset();
  tensor.set_data(data);
  tensor.unsafeGetTensorImpl()->bump_version();
}

}  // namespace

void ExpertEdit::take_rows(const torch::Tensor& tensor) {
  if (!tensor.defined()) return;
  const torch::NoGradGuard no_grad;
  rows.push_back(tensor);
  then([own = tensor, data = tensor.detach().index_select(0, index)]() mutable {
    replace_data(own, data);
  });
}

void ExpertEdit::commit() {
  for (const auto& change : changes_) change();
  changes_.clear();
}

}  // namespace moekit::nn
