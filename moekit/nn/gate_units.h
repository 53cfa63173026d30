#pragma once

#include <vector>

#include "moekit/core/enum_names.h"
#include "moekit/nn/token_rows.h"

namespace moekit::nn {

/// Whose tokens share a gate.
enum class GateUnit {
  kToken,     ///< none: each token has its own, as in the ordinary sparse layer
  kSequence,  ///< of its tokens' mean; sees a sequence's later tokens at the earlier ones
  kPrefix,    ///< position t: of the mean over 0..t of its sequence, so that none sees a later one
  kTask,      ///< of a vector that stands for the task
};

/// Groups of tokens with a gate of their own, and what a router sees of each.
struct GateUnits {
  torch::Tensor inputs;  ///< [G, R]; gradient flows back to tokens or task vectors
  /// [N] int64, 0..G-1: the group of each row. Undefined where there is one group, of all rows.
  torch::Tensor of_row;
  bool in_order = true;        ///< rows of a group stand together, group after group
  std::vector<int64_t> sizes;  ///< [G], rows of each group; none is empty
  torch::Tensor sequence;      ///< [G] int64, which sequence of the input; undefined for tasks
};

/// One group for each sequence that has a token.
/// @param tokens  [B, T, D], or [T, D] for one sequence @param rows  of the same tokens
/// @param padding whether masked tokens are in the mean, as in the released code of MEO
GateUnits sequence_units(const torch::Tensor& tokens, const TokenRows& rows, bool padding);
/// One group for each row; means over the tokens of the row's sequence up to it, masked ones in it
/// only where `padding` says so. @param tokens as above
GateUnits prefix_units(const torch::Tensor& tokens, const TokenRows& rows, bool padding);
/// One group for each row, of the row itself.
GateUnits token_units(const TokenRows& rows);
/// One group, of all rows. @param task [R]
GateUnits task_units(const TokenRows& rows, const torch::Tensor& task);
/// One group for each task that a row is of, by the context's task_id.
/// @param vectors [T, R], a row a task
/// @throws ArgumentError without a task_id, or for one outside 0..T-1
GateUnits task_units_by_id(const TokenRows& rows, const torch::Tensor& vectors);

}  // namespace moekit::nn

template <>
struct moekit::EnumNames<moekit::nn::GateUnit> {
  static constexpr std::array<std::pair<nn::GateUnit, std::string_view>, 4> kTable{{
      {nn::GateUnit::kToken, "token"},
      {nn::GateUnit::kSequence, "sequence"},
      {nn::GateUnit::kPrefix, "prefix"},
      {nn::GateUnit::kTask, "task"},
  }};
};
