#include "moekit/nn/merged_linear.h"

#include <algorithm>
#include <mutex>
#include <optional>

#include "moekit/core/error.h"
#include "moekit/nn/grouped_linear.h"
#include "moekit/nn/parts.h"
#include "moekit/nn/precision.h"
#include "moekit/tensor/operation_counter.h"

namespace moekit::nn {
namespace {

void check_merged_options(const MergedLinearOptions& options) {
  const bool task = options.unit() == GateUnit::kTask;
  MOEKIT_CHECK(options.token_reduction() >= 0,
               "MergedLinear: token_reduction must be 0 (none) or more; got ",
               options.token_reduction());
  MOEKIT_CHECK(options.most_merged_bytes() >= 0,
               "MergedLinear: most_merged_bytes must be at least 0; got ",
               options.most_merged_bytes());
  MOEKIT_CHECK(options.num_tasks() >= 0 && options.task_size() >= 0,
               "MergedLinear: num_tasks and task_size must be at least 0; got ",
               options.num_tasks(), " and ", options.task_size());
  MOEKIT_CHECK(task || (options.num_tasks() == 0 && options.task_size() == 0),
               "MergedLinear: num_tasks and task_size have no effect with unit = \"",
               enum_name(options.unit()), "\"; got ", options.num_tasks(), " and ",
               options.task_size());
  MOEKIT_CHECK((options.num_tasks() > 0) == (options.task_size() > 0),
               "MergedLinear: num_tasks and task_size go together; got ", options.num_tasks(),
               " and ", options.task_size());
  MOEKIT_CHECK(!options.mean_over_padding() || options.unit() == GateUnit::kSequence ||
                   options.unit() == GateUnit::kPrefix,
               "MergedLinear: mean_over_padding has no effect with unit = \"",
               enum_name(options.unit()), "\", which takes no mean");
}

/// K, of a routing whose rows all have as many experts.
int64_t chosen_of(const Routing& routing) {
  MOEKIT_CHECK(routing.expert_index.defined(),
               "MergedLinear: needs a router that sends every row to K experts");
  return routing.top_k();
}

/// g [G, E], zero where an expert is not chosen.
torch::Tensor gate_matrix(const Routing& routing, torch::ScalarType type) {
  const auto weight = routing.weight.to(type).view(routing.expert_index.sizes());
  if (routing.takes_all) return weight;
  return torch::zeros({routing.num_tokens(), routing.num_experts()},
                      weight.options().requires_grad(false))
      .scatter(1, routing.expert_index, weight);
}

}  // namespace

MergedWeights merge_linear(const LinearExpertsImpl& experts, const Routing& routing, MergeBy by) {
  const int64_t chosen = chosen_of(routing);
  const auto type = compute_type(experts.weight, routing.weight);
  const int64_t gates = routing.num_tokens();
  torch::Tensor gate;
  if (by == MergeBy::kProduct) gate = gate_matrix(routing, type);
  const auto merge = [&](const torch::Tensor& stack) {  // [E, P] -> [G, P]
    if (by == MergeBy::kProduct) return gate.mm(stack.to(type));
    return routing.weight.to(type)
        .view({gates, 1, chosen})
        .bmm(stack.index_select(0, routing.expert).to(type).view({gates, chosen, stack.size(1)}))
        .squeeze(1);
  };
  const auto& weight = experts.weight;
  MergedWeights merged;
  merged.weight = merge(weight.flatten(1))
                      .view({gates, weight.size(1), weight.size(2)})
                      .to(weight.scalar_type());
  if (experts.bias.defined()) {
    merged.bias = merge(experts.bias).to(experts.bias.scalar_type());
  }
  return merged;
}

/// Merged weights of the last gate, and what they were made of.
struct MergedLinearImpl::Kept {
  /// A parameter as it was: its memory, which is held so that no other can take its place, and the
  /// number of changes in place.
  struct Stamp {
    torch::Tensor parameter;
    int64_t version = 0;

    bool holds(const torch::Tensor& now) const {
      if (parameter.defined() != now.defined()) return false;
      return !now.defined() || (now.data_ptr() == parameter.data_ptr() &&
                                now.sizes() == parameter.sizes() && now._version() == version);
    }
  };
  static Stamp stamp(const torch::Tensor& parameter) {
    return parameter.defined() ? Stamp{parameter.detach(), parameter._version()} : Stamp{};
  }

  std::mutex mutex;  // a model in evaluation mode may be called from several threads
  torch::Tensor expert, gate;
  Stamp weight, bias;
  MergedWeights merged;

  std::optional<MergedWeights> find(const LinearExpertsImpl& experts, const Routing& routing) {
    const std::lock_guard lock(mutex);
    if (!merged.weight.defined() || !weight.holds(experts.weight) || !bias.holds(experts.bias) ||
        gate.scalar_type() != routing.weight.scalar_type() ||
        !torch::equal(expert, routing.expert) || !torch::equal(gate, routing.weight)) {
      return std::nullopt;
    }
    return merged;
  }
  void keep(const LinearExpertsImpl& experts, const Routing& routing, const MergedWeights& made) {
    const std::lock_guard lock(mutex);
    expert = routing.expert;
    gate = routing.weight;
    weight = stamp(experts.weight);
    bias = stamp(experts.bias);
    merged = made;
  }
  void forget() {
    const std::lock_guard lock(mutex);
    merged = {};
    weight = bias = {};
  }
};

MergedLinearImpl::MergedLinearImpl(std::shared_ptr<RouterImpl> router_,
                                   std::shared_ptr<LinearExpertsImpl> experts_,
                                   MergedLinearOptions options_)
    : options(std::move(options_)), router(std::move(router_)), experts(std::move(experts_)) {
  join_parts("MergedLinear", router.get(), experts.get());
  check_merged_options(options);
  MOEKIT_CHECK(!router->needs_expert_features(),
               "MergedLinear: the router takes features of experts; linear ones have none");
  const auto traits = router->traits();
  check_trainable(traits, traits.no_weight_gradient, "MergedLinear: ");
  register_part(*this, "router", router);
  register_part(*this, "experts", experts);
  if (options.token_reduction() > 0) {
    token_block = TokenBlock(experts->options.hidden_size(), options.token_reduction());
  }
  register_own();
}

void MergedLinearImpl::reset() {
  register_copy(*this, "router", router);
  register_copy(*this, "experts", experts);
  if (token_block) {
    token_block = TokenBlock(std::dynamic_pointer_cast<TokenBlockImpl>(token_block->clone()));
  }
  register_own();
}

void MergedLinearImpl::register_own() {
  if (token_block) register_module("token_block", token_block);
  if (options.num_tasks() > 0) {
    task_vectors = register_parameter("task_vectors",
                                      torch::empty({options.num_tasks(), options.task_size()}));
    init_uniform_fan_in(task_vectors, options.task_size(), {});
  }
  kept_ = std::make_shared<Kept>();
}

void MergedLinearImpl::reset_parameters(const at::Generator& generator) {
  router->reset_parameters(generator);
  experts->reset_parameters(generator);
  if (token_block) token_block->reset_parameters(generator);
  if (task_vectors.defined()) init_uniform_fan_in(task_vectors, options.task_size(), generator);
}

torch::Tensor MergedLinearImpl::forward(const torch::Tensor& tokens) {
  return forward_with_routing(tokens).values;
}

void MergedLinearImpl::forget_merged() { kept_->forget(); }

GateUnits MergedLinearImpl::make_units(const torch::Tensor& tokens, const TokenRows& rows,
                                       const torch::Tensor& task) const {
  const bool given = options.unit() == GateUnit::kTask && options.num_tasks() == 0;
  MOEKIT_CHECK(given == task.defined(), "MergedLinear: unit = \"", enum_name(options.unit()),
               "\" with num_tasks = ", options.num_tasks(),
               given ? " needs a task vector [R]" : " takes no task vector");
  switch (options.unit()) {
    case GateUnit::kToken:
      return token_units(rows);
    case GateUnit::kSequence:
      return sequence_units(tokens, rows, options.mean_over_padding());
    case GateUnit::kPrefix:
      return prefix_units(tokens, rows, options.mean_over_padding());
    case GateUnit::kTask:
      break;
  }
  return given ? task_units(rows, task) : task_units_by_id(rows, task_vectors);
}

MergedLinearOutput MergedLinearImpl::forward_with_routing(const torch::Tensor& tokens,
                                                          const RouterContext& context,
                                                          const torch::Tensor& task) {
  const int64_t hidden_size = experts->options.hidden_size();
  MOEKIT_CHECK((tokens.dim() == 2 || tokens.dim() == 3) && tokens.size(-1) == hidden_size,
               "MergedLinear: tokens must be [B, T, ", hidden_size, "] or [T, ", hidden_size,
               "]; got ", tokens.sizes());
  const auto seen = token_block
                        ? tensor::counted("token_block", [&] { return run_block(tokens, context); })
                        : tokens;
  const TokenRows rows(seen, context, /*token_dim=*/1);
  const auto units = make_units(seen, rows, task);
  RouterContext of_units;
  of_units.generator = context.generator;
  of_units.training = is_training();
  of_units.always_noise = context.always_noise;
  MergedLinearOutput output;
  output.units = units.inputs;
  output.routing =
      tensor::counted("router", [&] { return router->forward(units.inputs, of_units); });
  output.routing.sequence = units.sequence;
  const auto inputs = as_parameters(rows.tokens, *experts);
  const LinearWork work{output.routing.num_tokens(),
                        inputs.size(0),
                        experts->num_experts(),
                        chosen_of(output.routing),
                        hidden_size,
                        experts->output_size(),
                        static_cast<int64_t>(experts->weight.element_size())};
  const bool may_keep_merged = may_keep(units);
  std::optional<MergedWeights> merged;
  if (may_keep_merged && options.path() != LinearPath::kRouted) {
    merged = kept_->find(*experts, output.routing);
    output.cached = merged.has_value();
  }
  output.path = options.path();
  if (output.path == LinearPath::kAuto) {
    // A task's gate comes again, and its weights with it.
    const bool again =
        output.cached || (may_keep_merged && options.unit() == GateUnit::kTask &&
                          merged_bytes(work, merge_by(work)) <= options.most_merged_bytes());
    output.path = again ? LinearPath::kMerged : choose_path(work, options.most_merged_bytes());
  }
  torch::Tensor values;
  if (output.path == LinearPath::kRouted) {
    values = tensor::counted("experts", [&] { return run_routed(inputs, units, output.routing); });
  } else {
    if (!merged) {
      merged = tensor::counted(
          "merge", [&] { return merge_linear(*experts, output.routing, merge_by(work)); });
      if (may_keep_merged) kept_->keep(*experts, output.routing, *merged);
    }
    values = tensor::counted("experts", [&] { return run_merged(inputs, units, *merged); });
  }
  output.values = rows.restore(values);
  return output;
}

torch::Tensor MergedLinearImpl::run_block(const torch::Tensor& tokens,
                                          const RouterContext& context) {
  auto there = as_parameters(tokens, *token_block);
  const auto& mask = context.mask;
  // What stands in masked tokens may be no number, and its product with a gradient of 0 neither. A
  // mask of another size is TokenRows' to refuse.
  if (!options.mean_over_padding() && mask.defined() && mask.scalar_type() == torch::kBool &&
      mask.numel() * tokens.size(-1) == tokens.numel()) {
    auto sizes = tokens.sizes().vec();
    sizes.back() = 1;
    there = there.masked_fill(mask.logical_not().reshape(sizes), 0);
  }
  return token_block(there);
}

bool MergedLinearImpl::may_keep(const GateUnits& units) const {
  // Tensors made in inference mode count no changes.
  return !is_training() && !at::GradMode::is_enabled() && units.sizes.size() == 1 &&
         !experts->weight.is_inference() &&
         !(experts->bias.defined() && experts->bias.is_inference());
}

torch::Tensor MergedLinearImpl::run_routed(const torch::Tensor& inputs, const GateUnits& units,
                                           const Routing& routing) {
  auto index = routing.expert_index;
  auto weight = routing.weight.view(index.sizes());
  if (units.of_row.defined()) {
    index = index.index_select(0, units.of_row);
    weight = weight.index_select(0, units.of_row);
  } else {
    index = index.expand({inputs.size(0), index.size(1)});
    weight = weight.expand({inputs.size(0), index.size(1)});
  }
  const auto plan = make_plan(index, routing.num_experts());
  return combine(experts->forward_dispatched(inputs, plan), plan, weight.reshape({-1}));
}

torch::Tensor MergedLinearImpl::run_merged(const torch::Tensor& inputs, const GateUnits& units,
                                           const MergedWeights& merged) const {
  const auto gates = static_cast<int64_t>(units.sizes.size());
  const auto size = gates > 0 ? units.sizes[0] : 0;
  if (units.in_order &&
      std::all_of(units.sizes.begin(), units.sizes.end(), [&](auto s) { return s == size; })) {
    return stacked_linear(inputs.reshape({gates, size, inputs.size(1)}), merged.weight, merged.bias)
        .flatten(0, 1);
  }
  std::vector<int64_t> offsets{0};
  for (const auto s : units.sizes) offsets.push_back(offsets.back() + s);
  if (units.in_order) return grouped_linear(inputs, merged.weight, merged.bias, offsets);
  const auto order = std::get<1>(units.of_row.sort(/*stable=*/true, 0, false));
  const auto values =
      grouped_linear(inputs.index_select(0, order), merged.weight, merged.bias, offsets);
  return torch::empty_like(values).index_copy(0, order, values);
}

}  // namespace moekit::nn
