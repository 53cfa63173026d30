#pragma once

#include <functional>
#include <map>
#include <string>
#include <vector>

#include "moekit/core/config.h"
#include "moekit/core/enum_names.h"
#include "moekit/nn/routed_layer.h"

namespace moekit::merge {

/// Which past counts.
enum class UsageWindow {
  kSinceMerge,   ///< since the layer's experts were last merged
  kTask,         ///< since the task's beginning
  kExponential,  ///< all steps, each `decay` times the weight of the next
};

/// What counts of an assignment.
enum class UsageCount {
  kHard,  ///< one, whatever its weight
  kSoft,  ///< the weight of the expert's output
};

/// [E] sums by expert. @param expert [A] int64, 0..E-1 @param values [A]; no gradient flows
std::vector<double> by_expert(const torch::Tensor& expert, const torch::Tensor& values,
                              int64_t experts);

/// How much the experts of one layer were used.
struct LayerUsage {
  std::vector<double> since_merge_hard, since_merge_soft;  ///< [E]
  std::vector<double> task_hard, task_soft;
  std::vector<double> exponential_hard, exponential_soft;

  template <typename Field>
  void visit(Field&& field) {
    field("since_merge_hard", since_merge_hard, "");
    field("since_merge_soft", since_merge_soft, "");
    field("task_hard", task_hard, "");
    field("task_soft", task_soft, "");
    field("exponential_hard", exponential_hard, "");
    field("exponential_soft", exponential_soft, "");
  }
};

/// Counts of all layers of a model over its training steps.
class UsageCounter {
 public:
  /// Sums numbers over the processes that train copies of the model together, in place: without it
  /// each would decide by its own share of the samples.
  using SumOverReplicas = std::function<void(std::vector<double>& counts)>;

  /// @param decay  of the exponential counts, a step; 0 < decay < 1
  explicit UsageCounter(double decay, SumOverReplicas sum = {});
  /// Adds what the layers of one step decided. No gradient.
  /// @throws ArgumentError for a layer that has fewer experts than before; new ones come behind
  void add(const std::vector<nn::LayerRouting>& layers);
  /// [E] of a layer; no numbers where none of its steps has been counted.
  const std::vector<double>& counts(const std::string& layer, UsageWindow window,
                                    UsageCount count) const;
  /// The counts since the last merge of a layer begin anew.
  void start_after_merge(const std::string& layer);
  /// The counts of the task begin anew, of all layers.
  void start_task();

  /// For checkpoints. @throws FormatError naming `where`
  Json state() const;
  void load_state(const Json& state, const std::string& where);

 private:
  double decay_;
  SumOverReplicas sum_;
  std::map<std::string, LayerUsage> layers_;
};

}  // namespace moekit::merge

template <>
struct moekit::EnumNames<moekit::merge::UsageWindow> {
  static constexpr std::array<std::pair<merge::UsageWindow, std::string_view>, 3> kTable{{
      {merge::UsageWindow::kSinceMerge, "since_merge"},
      {merge::UsageWindow::kTask, "task"},
      {merge::UsageWindow::kExponential, "exponential"},
  }};
};

template <>
struct moekit::EnumNames<moekit::merge::UsageCount> {
  static constexpr std::array<std::pair<merge::UsageCount, std::string_view>, 2> kTable{{
      {merge::UsageCount::kHard, "hard"},
      {merge::UsageCount::kSoft, "soft"},
  }};
};
