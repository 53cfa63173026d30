#pragma once

#include <memory>
#include <string>
#include <utility>
#include <vector>

namespace moekit::tensor {

/// Counts what this thread computes in libtorch as long as it lives: operations of matrix products
/// and convolutions, two a multiply-add. Additions, activations, softmax and normalisation count as
/// none, as is usual; gathering and writing neither. What was really called is counted, so that
/// experts which are not chosen cost nothing. Kernels of ours say what they do by
/// count_operations(). One counter a thread at a time.
class OperationCounter {
 public:
  /// @throws ArgumentError when this thread has one already.
  OperationCounter();
  ~OperationCounter();
  OperationCounter(const OperationCounter&) = delete;
  OperationCounter& operator=(const OperationCounter&) = delete;

  /// By part (`CountedPart`), in the order they came; what was in no part has an empty name.
  const std::vector<std::pair<std::string, double>>& parts() const;
  double total() const;

  struct State;

 private:
  std::unique_ptr<State> state_;
};

/// Says what is computed until its end, for a counter of this thread: "router", "experts". One
/// inside another gives "blocks.0.router". Costs nothing without a counter.
class CountedPart {
 public:
  explicit CountedPart(const std::string& name);
  ~CountedPart();
  CountedPart(const CountedPart&) = delete;
  CountedPart& operator=(const CountedPart&) = delete;

 private:
  size_t length_ = 0;  ///< of the outer parts' name
};

/// What `work` gives, counted as this part.
template <typename Work>
auto counted(const std::string& name, const Work& work) {
  const CountedPart part(name);
  return work();
}

/// Of a kernel of ours, for a counter of this thread.
void count_operations(double operations);

}  // namespace moekit::tensor
