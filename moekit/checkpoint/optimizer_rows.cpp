#include "moekit/checkpoint/optimizer_rows.h"

#include <algorithm>
#include <memory>
#include <set>

#include "moekit/checkpoint/optimizer_state.h"

namespace moekit::checkpoint {
namespace {

using State = torch::optim::OptimizerParamState;

StateFields rows_of(const StateFields& fields, const torch::Tensor& index) {
  StateFields rows = fields;
  for (auto& [name, tensor] : rows) {
    if (tensor.dim() > 0) tensor = tensor.index_select(0, index);
  }
  return rows;
}

/// [E] int64: the steps that each row took.
torch::Tensor steps_of(const StateFields& fields, int64_t rows) {
  const auto own = fields.find(kRowSteps);
  if (own != fields.end()) return own->second.clone();
  const auto all = fields.find("step");
  // Without a count, all that matters is whether there was a step.
  const int64_t steps =
      all != fields.end() ? all->second.item<int64_t>() : static_cast<int64_t>(!fields.empty());
  return torch::full({rows}, steps, torch::kLong);
}

}  // namespace

OptimizerEdit::OptimizerEdit(torch::optim::Optimizer& optimizer) : optimizer_(optimizer) {
  optimizer_kind(optimizer);
}

void OptimizerEdit::take_rows(const torch::Tensor& parameter, const torch::Tensor& index) {
  const auto& kind = optimizer_kind(optimizer_);
  const auto fields = state_fields(kind, optimizer_, parameter);
  if (fields.empty()) return;
  // A std::function can be copied; what it holds must be so, too.
  const std::shared_ptr<State> state = kind.write(rows_of(fields, index));
  changes_.emplace_back([this, parameter, state] {
    auto& all = optimizer_.state();
    all[state_key(all, parameter)] = state->clone();
  });
}

void OptimizerEdit::copy(const torch::Tensor& source, const torch::Tensor& parameter) {
  auto* group = find_group(optimizer_, source);
  if (group == nullptr) return;
  const auto& kind = optimizer_kind(optimizer_);
  const auto fields = state_fields(kind, optimizer_, source);
  const std::shared_ptr<State> state = fields.empty() ? nullptr : kind.write(fields);
  changes_.emplace_back([this, group, parameter, state] {
    group->params().push_back(parameter);
    auto& all = optimizer_.state();
    if (state) all[state_key(all, parameter)] = state->clone();
  });
}

void OptimizerEdit::forget_rows(const torch::Tensor& parameter, const torch::Tensor& index) {
  const auto& kind = optimizer_kind(optimizer_);
  auto fields = state_fields(kind, optimizer_, parameter);
  if (fields.empty()) return;
  auto steps = steps_of(fields, parameter.size(0));
  for (auto& [name, tensor] : fields) {
    if (tensor.dim() > 0) tensor = tensor.clone().index_fill_(0, index, 0);
  }
  fields[kRowSteps] = steps.index_fill_(0, index, 0);
  if (kind.counts_steps) fields["step"] = steps.max();
  const std::shared_ptr<State> state = kind.write(fields);
  changes_.emplace_back([this, parameter, state] {
    auto& all = optimizer_.state();
    all[state_key(all, parameter)] = state->clone();
  });
}

void OptimizerEdit::forget(const torch::Tensor& parameter) {
  changes_.emplace_back(
      [this, parameter] { optimizer_.state().erase(state_key(optimizer_.state(), parameter)); });
}

void OptimizerEdit::remove(const torch::Tensor& parameter) {
  changes_.emplace_back([this, parameter] {
    if (auto* group = find_group(optimizer_, parameter)) {
      auto& members = group->params();
      members.erase(std::remove_if(members.begin(), members.end(),
                                   [&](const auto& member) { return member.is_same(parameter); }),
                    members.end());
    }
    optimizer_.state().erase(state_key(optimizer_.state(), parameter));
  });
}

void OptimizerEdit::commit() {
  for (const auto& change : changes_) change();
  changes_.clear();
}

void step_rows(torch::optim::Optimizer& optimizer, const torch::Tensor& parameter,
               const torch::Tensor& gradient, const torch::Tensor& active) {
  const torch::NoGradGuard no_grad;
  const auto& kind = optimizer_kind(optimizer);
  auto* group = find_group(optimizer, parameter);
  if (group == nullptr) return;
  const auto values = parameter.detach();
  auto fields = state_fields(kind, optimizer, parameter);
  auto steps = steps_of(fields, parameter.size(0));
  const auto before = steps.clone();
  const auto* begin = before.data_ptr<int64_t>();
  // Rows that took the same number of steps go through an optimizer of their own together.
  for (const int64_t taken : std::set<int64_t>(begin, begin + before.numel())) {
    const auto index = active.logical_and(before.eq(taken)).nonzero().squeeze(1);
    if (index.numel() == 0) continue;
    auto rows = values.index_select(0, index).requires_grad_();
    rows.mutable_grad() = gradient.index_select(0, index);
    const auto own = kind.make({{rows}, group->options().clone()});
    if (taken > 0 && !fields.empty()) {
      auto of_rows = rows_of(fields, index);
      of_rows.erase(kRowSteps);
      if (kind.counts_steps) of_rows["step"] = torch::tensor(taken, torch::kLong);
      own->state()[state_key(own->state(), rows)] = kind.write(of_rows);
    }
    own->step();
    values.index_copy_(0, index, rows.detach());
    for (const auto& [name, tensor] : state_fields(kind, *own, rows)) {
      if (tensor.dim() == 0) continue;
      auto& whole = fields[name];
      whole = whole.defined() ? whole.clone() : torch::zeros_like(values);
      whole.index_copy_(0, index, tensor);
    }
    steps.index_fill_(0, index, taken + 1);
  }
  if (fields.empty()) return;  // a kind without memory
  fields[kRowSteps] = steps;
  if (kind.counts_steps) fields["step"] = steps.max();
  optimizer.state()[state_key(optimizer.state(), parameter)] = kind.write(fields);
}

bool has_row_steps(torch::optim::Optimizer& optimizer, const torch::Tensor& parameter) {
  return state_fields(optimizer_kind(optimizer), optimizer, parameter).count(kRowSteps) > 0;
}

}  // namespace moekit::checkpoint
