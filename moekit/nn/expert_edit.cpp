#include "moekit/nn/expert_edit.h"

namespace moekit::nn {

void ExpertEdit::take_rows(torch::Tensor& tensor) {
  if (!tensor.defined()) return;
  const torch::NoGradGuard no_grad;
  tensor.set_data(tensor.index_select(0, index));
  tensor.mutable_grad().reset();
  rows.push_back(tensor);
}

}  // namespace moekit::nn
