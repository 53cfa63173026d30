#pragma once

#include <torch/types.h>

#include <functional>
#include <utility>
#include <vector>

namespace moekit::nn {

/// A change of a layer's experts. Router and experts say what they would do; nothing is touched
/// before all of it has been worked out, then commit() does it at once. What was noted is for those
/// who keep something beside the tensors: optimizer state above all.
struct ExpertEdit {
  torch::Tensor index;              ///< [E'] int64: new expert i is old expert index[i]
  std::vector<torch::Tensor> rows;  ///< parameters and buffers whose first dimension is indexed
  std::vector<std::pair<torch::Tensor, torch::Tensor>> copies;  ///< new parameter, copied from
  std::vector<torch::Tensor> removed;                           ///< parameters that go

  explicit ExpertEdit(torch::Tensor experts) : index(std::move(experts)) {}

  /// Indexes the first dimension of `tensor`, in commit() and in place: it stays the same object
  /// for whoever holds it. Its gradient is dropped. A graph that was made with the old rows refuses
  /// to run backward from then on. An undefined tensor is left alone.
  void take_rows(const torch::Tensor& tensor);
  /// Anything else, options above all; called by commit(), in order. It must not throw.
  void then(std::function<void()> change) { changes_.push_back(std::move(change)); }
  void commit();

 private:
  std::vector<std::function<void()>> changes_;
};

}  // namespace moekit::nn
