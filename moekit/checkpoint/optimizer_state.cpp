#include "moekit/checkpoint/optimizer_state.h"

#include <torch/optim/adam.h>
#include <torch/optim/adamw.h>
#include <torch/optim/sgd.h>

#include <algorithm>

#include "moekit/core/error.h"

namespace moekit::checkpoint {
namespace {

/// What a state has beside libtorch's fields.
struct RowSteps {
  torch::Tensor row_steps;
  RowSteps() = default;
  RowSteps(const RowSteps&) = default;
  RowSteps& operator=(const RowSteps&) = default;
  virtual ~RowSteps() = default;
};

template <typename State>
struct WithRowSteps : State, RowSteps {
  std::unique_ptr<torch::optim::OptimizerParamState> clone() const override {
    return std::make_unique<WithRowSteps>(*this);
  }
};

/// An empty state, of the kind that the fields need.
template <typename State>
std::unique_ptr<State> new_state(const StateFields& fields) {
  const auto found = fields.find(kRowSteps);
  if (found == fields.end()) return std::make_unique<State>();
  auto state = std::make_unique<WithRowSteps<State>>();
  state->row_steps = found->second.clone();
  return state;
}

torch::Tensor field(const StateFields& fields, const std::string& name) {
  const auto found = fields.find(name);
  return found == fields.end() ? torch::Tensor() : found->second.clone();
}

void keep(StateFields& fields, const std::string& name, const torch::Tensor& tensor) {
  if (tensor.defined()) fields[name] = tensor;
}

void keep_row_steps(StateFields& fields, const torch::optim::OptimizerParamState& state) {
  if (const auto* rows = dynamic_cast<const RowSteps*>(&state)) {
    keep(fields, kRowSteps, rows->row_steps);
  }
}

template <typename State>
StateFields read_adam(torch::optim::OptimizerParamState& base) {
  auto& state = static_cast<State&>(base);
  StateFields fields{{"step", torch::tensor(state.step(), torch::kLong)}};
  keep(fields, "exp_avg", state.exp_avg());
  keep(fields, "exp_avg_sq", state.exp_avg_sq());
  keep(fields, "max_exp_avg_sq", state.max_exp_avg_sq());
  keep_row_steps(fields, base);
  return fields;
}

template <typename State>
std::unique_ptr<torch::optim::OptimizerParamState> write_adam(const StateFields& fields) {
  auto state = new_state<State>(fields);
  state->step(fields.at("step").item<int64_t>());
  state->exp_avg(field(fields, "exp_avg"));
  state->exp_avg_sq(field(fields, "exp_avg_sq"));
  state->max_exp_avg_sq(field(fields, "max_exp_avg_sq"));
  return state;
}

template <typename Options>
std::vector<MomentField> moments_of_adam(const torch::optim::OptimizerOptions& options) {
  std::vector<MomentField> moments{{"exp_avg", false}, {"exp_avg_sq", true}};
  if (static_cast<const Options&>(options).amsgrad()) moments.push_back({"max_exp_avg_sq", true});
  return moments;
}

StateFields read_sgd(torch::optim::OptimizerParamState& base) {
  StateFields fields;
  keep(fields, "momentum_buffer",
       static_cast<torch::optim::SGDParamState&>(base).momentum_buffer());
  keep_row_steps(fields, base);
  return fields;
}

std::unique_ptr<torch::optim::OptimizerParamState> write_sgd(const StateFields& fields) {
  auto state = new_state<torch::optim::SGDParamState>(fields);
  state->momentum_buffer(field(fields, "momentum_buffer"));
  return state;
}

std::vector<MomentField> moments_of_sgd(const torch::optim::OptimizerOptions& options) {
  if (static_cast<const torch::optim::SGDOptions&>(options).momentum() == 0) return {};
  return {{"momentum_buffer", false}};
}

template <typename Optimizer>
bool is_a(torch::optim::Optimizer& optimizer) {
  return dynamic_cast<Optimizer*>(&optimizer) != nullptr;
}

template <typename Optimizer, typename Options>
std::unique_ptr<torch::optim::Optimizer> make_one(const torch::optim::OptimizerParamGroup& group) {
  const auto options = static_cast<const Options&>(group.options());
  return std::make_unique<Optimizer>(std::vector<torch::optim::OptimizerParamGroup>{group},
                                     options);
}

}  // namespace

const OptimizerKind& optimizer_kind(torch::optim::Optimizer& optimizer) {
  using namespace torch::optim;  // NOLINT(google-build-using-namespace)
  static const OptimizerKind kKinds[] = {
      {"AdamW", &is_a<AdamW>, true, &moments_of_adam<AdamWOptions>, &read_adam<AdamWParamState>,
       &write_adam<AdamWParamState>, &make_one<AdamW, AdamWOptions>},
      {"Adam", &is_a<Adam>, true, &moments_of_adam<AdamOptions>, &read_adam<AdamParamState>,
       &write_adam<AdamParamState>, &make_one<Adam, AdamOptions>},
      {"SGD", &is_a<SGD>, false, &moments_of_sgd, &read_sgd, &write_sgd,
       &make_one<SGD, SGDOptions>},
  };
  for (const OptimizerKind& kind : kKinds) {
    if (kind.is(optimizer)) return kind;
  }
  throw ArgumentError(
      "optimizer state: only that of SGD, Adam and AdamW can be saved and edited; this optimizer "
      "is of another kind");
}

torch::optim::OptimizerParamGroup* find_group(torch::optim::Optimizer& optimizer,
                                              const torch::Tensor& parameter) {
  for (auto& group : optimizer.param_groups()) {
    const auto& members = group.params();
    if (std::any_of(members.begin(), members.end(),
                    [&](const auto& member) { return member.is_same(parameter); })) {
      return &group;
    }
  }
  return nullptr;
}

StateFields state_fields(const OptimizerKind& kind, torch::optim::Optimizer& optimizer,
                         const torch::Tensor& parameter) {
  const auto found = optimizer.state().find(state_key(optimizer.state(), parameter));
  return found == optimizer.state().end() ? StateFields() : kind.read(*found->second);
}

}  // namespace moekit::checkpoint
