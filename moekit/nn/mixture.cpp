#include "moekit/nn/mixture.h"

#include <cmath>

#include "moekit/core/error.h"
#include "moekit/nn/parts.h"
#include "moekit/nn/precision.h"
#include "moekit/nn/token_rows.h"
#include "moekit/tensor/operation_counter.h"

namespace moekit::nn {
namespace {

/// log sum_i gate_i o_i, [N, C].
torch::Tensor log_expectation(const torch::Tensor& log_gate,
                              const torch::Tensor& expert_log_probs) {
  return torch::logsumexp(expert_log_probs + log_gate.t().unsqueeze(2), 0);
}

/// The chosen expert's log probabilities. @param index [N] -> [N, C]
torch::Tensor pick_expert(const torch::Tensor& expert_log_probs, const torch::Tensor& index) {
  const auto classes = expert_log_probs.size(2);
  return expert_log_probs.gather(0, index.reshape({1, -1, 1}).expand({1, -1, classes})).squeeze(0);
}

/// log(p o_i + (1 - p) / C) for the one chosen expert. @param log_p [N, 1] @param log_o [N, C]
torch::Tensor top1_log_probs(const torch::Tensor& log_p, const torch::Tensor& log_o) {
  // 1 - p by expm1, so that it does not vanish in rounding; p = 1 gives log 0 = -infinity, which
  // the clamp keeps out of the gradient.
  const auto log_rest = torch::log((-torch::expm1(log_p)).clamp_min(1e-30)) -
                        std::log(static_cast<double>(log_o.size(1)));
  return torch::logaddexp(log_o + log_p, log_rest);
}

torch::Tensor top_k_log_probs(const MixtureOutput& output) {
  const auto& routing = output.routing;
  if (routing.top_k() > 1) {
    // Softmax over the chosen logits alone, -infinity elsewhere.
    const auto chosen = routing.logits.gather(1, routing.expert_index);
    const auto masked = torch::full_like(routing.logits, -std::numeric_limits<float>::infinity())
                            .scatter(1, routing.expert_index, chosen);
    return log_expectation(torch::log_softmax(masked, 1), output.expert_log_probs);
  }
  const auto index = routing.expert_index.squeeze(1);
  const auto log_p = output.log_gate.gather(1, routing.expert_index);
  return top1_log_probs(log_p, pick_expert(output.expert_log_probs, index));
}

torch::Tensor squared_errors(const torch::Tensor& outputs, const torch::Tensor& target) {
  return (outputs - target.unsqueeze(0)).square().sum(2).t();  // [N, E]
}

}  // namespace

MixtureImpl::MixtureImpl(std::shared_ptr<RouterImpl> router_, std::shared_ptr<ExpertsImpl> experts_,
                         MixtureOptions options_)
    : options(options_), router(std::move(router_)), experts(std::move(experts_)) {
  join_parts("Mixture", router.get(), experts.get());
  // Whatever weights the router gives: every form takes the softmax over all experts, or for more
  // than one chosen over those.
  check_trainable(router->traits(),
                  why_no_gradient(0, router->num_experts(), CombineWeights::kProbs), "Mixture: ");
  register_part(*this, "router", router);
  register_part(*this, "experts", experts);
}

void MixtureImpl::reset() {
  register_copy(*this, "router", router);
  register_copy(*this, "experts", experts);
}

bool MixtureImpl::runs_sparsely() const {
  return options.form() == MixtureForm::kTopK && !is_training() && !router->needs_expert_features();
}

MixtureOutput MixtureImpl::forward_sparse(const torch::Tensor& inputs,
                                          const RouterContext& context) {
  MixtureOutput output;
  output.routing = tensor::counted("router", [&] { return router->forward(inputs, context); });
  const auto& routing = output.routing;
  output.log_gate = torch::log_softmax(routing.logits, 1);
  const auto plan = make_plan(routing);
  const auto values = tensor::counted("experts", [&] {
    return experts->forward_dispatched(as_parameters(inputs, *experts), plan);
  });
  const auto rows = torch::log_softmax(at_least_float(values), 1);
  if (routing.top_k() == 1) {
    const auto in_order = torch::empty_like(rows).index_copy(0, plan_tokens(plan), rows);
    output.log_probs = top1_log_probs(output.log_gate.gather(1, routing.expert_index), in_order);
  } else {
    // Softmax over the chosen logits alone, whatever weights the router gives for sums of outputs.
    const auto weight = torch::softmax(routing.logits.gather(1, routing.expert_index), 1);
    output.log_probs = combine(rows.exp(), plan, weight.flatten()).log();
  }
  output.log_probs = output.log_probs.to(values.scalar_type());
  return output;
}

MixtureOutput MixtureImpl::forward(const torch::Tensor& inputs, const RouterContext& context) {
  const TokenRows rows(inputs, context, experts->token_dim());
  auto output = forward_rows(rows.tokens, rows.context);
  output.log_probs = rows.restore(output.log_probs);
  output.log_gate = rows.restore(output.log_gate);
  for (auto* of_experts : {&output.expert_log_probs, &output.expert_features}) {
    if (of_experts->defined()) *of_experts = rows.restore(*of_experts, 1);
  }
  output.routing.rows = rows.rows;
  output.routing.sequence = rows.context.sequence;
  output.inputs = rows.tokens;
  return output;
}

MixtureOutput MixtureImpl::forward_rows(const torch::Tensor& inputs, RouterContext context) {
  if (runs_sparsely()) return forward_sparse(inputs, context);
  MixtureOutput output;
  const auto from_experts = tensor::counted(
      "experts", [&] { return experts->forward_all(as_parameters(inputs, *experts)); });
  const auto values = at_least_float(from_experts.values);
  context.expert_features = from_experts.features;
  context.training = is_training();
  output.routing = tensor::counted("router", [&] { return router->forward(inputs, context); });
  output.expert_features = from_experts.features;
  output.expert_log_probs = torch::log_softmax(values, 2);
  output.log_gate = torch::log_softmax(output.routing.logits, 1);
  switch (options.form()) {
    case MixtureForm::kExpectation:
      output.log_probs = log_expectation(output.log_gate, output.expert_log_probs);
      break;
    case MixtureForm::kStochastic: {
      const auto& probs = output.routing.probs;
      const auto index = is_training()
                             ? torch::multinomial(probs, 1, true, context.generator).squeeze(1)
                             : top1_expert(output.routing);
      output.log_probs = pick_expert(output.expert_log_probs, index);
      break;
    }
    case MixtureForm::kPreSoftmax:
      output.log_probs =
          torch::log_softmax((values * output.routing.probs.t().unsqueeze(2)).sum(0), 1);
      break;
    case MixtureForm::kTopK:
      output.log_probs = top_k_log_probs(output);
      break;
  }
  output.log_probs = output.log_probs.to(from_experts.values.scalar_type());
  return output;
}

torch::Tensor MixtureImpl::loss(const MixtureOutput& output, const torch::Tensor& labels) const {
  if (const auto& rows = output.routing.rows; rows.defined()) {
    MixtureOutput there;
    there.log_probs = output.log_probs.flatten(0, -2).index_select(0, rows);
    there.log_gate = output.log_gate.flatten(0, -2).index_select(0, rows);
    if (output.expert_log_probs.defined()) {
      there.expert_log_probs = output.expert_log_probs.flatten(1, -2).index_select(1, rows);
    }
    return loss(there, labels.reshape({-1}).index_select(0, rows));
  }
  if (options.form() == MixtureForm::kStochastic) {
    return jacobs_loss(output.log_gate, output.expert_log_probs, labels);
  }
  return torch::nll_loss(at_least_float(output.log_probs), labels);
}

torch::Tensor jacobs_loss(const torch::Tensor& log_gate, const torch::Tensor& expert_log_probs,
                          const torch::Tensor& labels) {
  const auto index = labels.reshape({1, -1, 1}).expand({expert_log_probs.size(0), -1, 1});
  const auto log_likelihood = expert_log_probs.gather(2, index).squeeze(2).t();  // [N, E]
  return -torch::logsumexp(log_gate + 0.5 * log_likelihood, 1).mean();
}

torch::Tensor cooperative_error(const torch::Tensor& gate, const torch::Tensor& outputs,
                                const torch::Tensor& target) {
  const auto joined = (outputs * gate.t().unsqueeze(2)).sum(0);
  return (joined - target).square().sum(1).mean();
}

torch::Tensor localized_error(const torch::Tensor& gate, const torch::Tensor& outputs,
                              const torch::Tensor& target) {
  return (gate * squared_errors(outputs, target)).sum(1).mean();
}

torch::Tensor competitive_error(const torch::Tensor& gate, const torch::Tensor& outputs,
                                const torch::Tensor& target) {
  return -torch::logsumexp(gate.log() - 0.5 * squared_errors(outputs, target), 1).mean();
}

}  // namespace moekit::nn
