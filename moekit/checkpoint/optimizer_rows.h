#pragma once

#include <torch/optim/optimizer.h>

#include <functional>
#include <vector>

/// Work on single rows of stacked parameters: what an optimizer remembers of them, and their steps.
namespace moekit::checkpoint {

/// Changes of an optimizer that follow a change of its model: worked out one by one, made together
/// by commit().
class OptimizerEdit {
 public:
  /// @throws ArgumentError for an optimizer of a kind whose state is not known.
  explicit OptimizerEdit(torch::optim::Optimizer& optimizer);
  /// Indexes the first dimension of what is remembered of `parameter`. @param index [E'] int64
  void take_rows(const torch::Tensor& parameter, const torch::Tensor& index);
  /// Puts `parameter` into the group of `source`, with a copy of its state; into none where
  /// `source` is in none, because it does not learn.
  void copy(const torch::Tensor& source, const torch::Tensor& parameter);
  /// Forgets what is remembered of the rows `index` of `parameter`, which start afresh: moments and
  /// their own count of steps are zero; the other rows keep every bit. @param index [R] int64
  void forget_rows(const torch::Tensor& parameter, const torch::Tensor& index);
  /// Forgets what is remembered of `parameter`, which stays in its group.
  void forget(const torch::Tensor& parameter);
  /// Takes `parameter` out of its group and forgets its state.
  void remove(const torch::Tensor& parameter);
  void commit();

 private:
  torch::optim::Optimizer& optimizer_;
  std::vector<std::function<void()>> changes_;
};

/// One step of those rows of a parameter [E, ...] that are `active` [E] bool, by libtorch's own
/// arithmetic; the others, and what the optimizer remembers of them, keep every bit. Each row has a
/// count of its own steps from then on: one that was left out goes on where it stood, also in
/// Adam's correction of the first steps. Does nothing where the optimizer does not hold it.
/// @param gradient  as the parameter
void step_rows(torch::optim::Optimizer& optimizer, const torch::Tensor& parameter,
               const torch::Tensor& gradient, const torch::Tensor& active);

/// Whether the rows of a parameter have had steps of their own.
bool has_row_steps(torch::optim::Optimizer& optimizer, const torch::Tensor& parameter);

}  // namespace moekit::checkpoint
