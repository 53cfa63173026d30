#pragma once

#include <torch/types.h>

#include <utility>
#include <vector>

namespace moekit::nn {

/// What a change of a layer's experts did to its tensors, for those who keep something beside
/// them: optimizer state above all.
struct ExpertEdit {
  torch::Tensor index;              ///< [E'] int64: new expert i is old expert index[i]
  std::vector<torch::Tensor> rows;  ///< parameters and buffers whose first dimension was indexed
  std::vector<std::pair<torch::Tensor, torch::Tensor>> copies;  ///< new parameter, copied from
  std::vector<torch::Tensor> removed;                           ///< parameters that are gone

  explicit ExpertEdit(torch::Tensor experts) : index(std::move(experts)) {}

  /// Indexes the first dimension of `tensor` in place: it stays the same object for whoever holds
  /// it. Its gradient is dropped. An undefined tensor is left alone.
  void take_rows(torch::Tensor& tensor);
};

}  // namespace moekit::nn
