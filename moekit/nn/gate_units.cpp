#include "moekit/nn/gate_units.h"

#include "moekit/core/error.h"
#include "moekit/nn/precision.h"

namespace moekit::nn {
namespace {

std::vector<int64_t> values_of(const torch::Tensor& counts) {
  const auto flat = counts.contiguous();
  return {flat.data_ptr<int64_t>(), flat.data_ptr<int64_t>() + flat.numel()};
}

/// [B, T, D]: one sequence is a batch of one.
torch::Tensor as_batch(const torch::Tensor& tokens) {
  return tokens.dim() == 2 ? tokens.unsqueeze(0) : tokens;
}

/// [B, T] bool, tokens that are there.
torch::Tensor presence(const torch::Tensor& batch, const TokenRows& rows) {
  auto there = torch::ones({batch.size(0) * batch.size(1)}, torch::kBool);
  if (rows.rows.defined()) there.zero_().index_fill_(0, rows.rows, true);
  return there.view({batch.size(0), batch.size(1)});
}

/// Tokens to be summed, zeros for those that are not to count: what stands there may be no number.
torch::Tensor counted(const torch::Tensor& batch, const torch::Tensor& weight) {
  const auto values = at_least_float(batch);
  return torch::where(weight.unsqueeze(2), values, torch::zeros({}, values.options()));
}

/// One group a row. @param inputs [N, R]
GateUnits unit_rows(torch::Tensor inputs, const TokenRows& rows) {
  GateUnits units;
  const int64_t count = rows.tokens.size(0);
  units.inputs = std::move(inputs);
  units.of_row = torch::arange(count, torch::kLong);
  units.sizes.assign(static_cast<size_t>(count), 1);
  units.sequence = rows.context.sequence;
  return units;
}

}  // namespace

GateUnits sequence_units(const torch::Tensor& tokens, const TokenRows& rows, bool padding) {
  const auto batch = as_batch(tokens);
  const auto there = presence(batch, rows);
  const auto sizes = there.sum(1);
  const auto kept = sizes.nonzero().squeeze(1);  // [G]
  const auto weight = padding ? torch::ones_like(there) : there;
  const auto counts = weight.sum(1).clamp_min(1).unsqueeze(1);
  GateUnits units;
  units.inputs = counted(batch, weight).sum(1) / counts;
  if (kept.size(0) < batch.size(0)) units.inputs = units.inputs.index_select(0, kept);
  units.sizes = values_of(sizes.index_select(0, kept));
  if (kept.size(0) != 1) {
    units.of_row =
        torch::arange(kept.size(0), torch::kLong).repeat_interleave(sizes.index_select(0, kept));
  }
  units.sequence = kept;
  return units;
}

GateUnits prefix_units(const torch::Tensor& tokens, const TokenRows& rows, bool padding) {
  const auto batch = as_batch(tokens);
  const auto there = presence(batch, rows);
  const auto weight = padding ? torch::ones_like(there) : there;
  const auto counts = weight.cumsum(1).clamp_min(1).unsqueeze(2);
  auto means = (counted(batch, weight).cumsum(1) / counts).flatten(0, 1);
  if (rows.rows.defined()) means = means.index_select(0, rows.rows);
  return unit_rows(std::move(means), rows);
}

GateUnits token_units(const TokenRows& rows) { return unit_rows(rows.tokens, rows); }

GateUnits task_units(const TokenRows& rows, const torch::Tensor& task) {
  MOEKIT_CHECK(task.dim() == 1, "task: wanted one vector [R]; got ", task.sizes());
  GateUnits units;
  units.inputs = task.unsqueeze(0);
  units.sizes = {rows.tokens.size(0)};
  return units;
}

GateUnits task_units_by_id(const TokenRows& rows, const torch::Tensor& vectors) {
  const auto& ids = rows.context.task_id;
  const int64_t count = rows.tokens.size(0);
  MOEKIT_CHECK(ids.defined() && ids.scalar_type() == torch::kLong && ids.numel() == count,
               "task_id: wanted one int64 for each of ", count, " tokens",
               ids.defined() ? concat("; got ", ids.sizes(), " ", ids.dtype()) : "");
  const auto bad = torch::logical_or(ids.lt(0), ids.ge(vectors.size(0))).nonzero();
  MOEKIT_CHECK(bad.numel() == 0, "task_id: there are tasks 0..", vectors.size(0) - 1, "; got ",
               bad.numel() > 0 ? ids[bad[0].item<int64_t>()].item<int64_t>() : 0);
  const auto [tasks, of_row, sizes] =
      at::_unique2(ids, /*sorted=*/true, /*return_inverse=*/true, /*return_counts=*/true);
  GateUnits units;
  units.inputs = vectors.index_select(0, tasks);
  units.sizes = values_of(sizes);
  if (units.sizes.size() != 1) {
    units.of_row = of_row;
    units.in_order = false;
  }
  return units;
}

}  // namespace moekit::nn
