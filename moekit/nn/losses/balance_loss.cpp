#include "moekit/nn/losses/balance_loss.h"

#include <algorithm>

#include "moekit/core/error.h"

namespace moekit::nn {
namespace {

/// Refuses rows that are no probabilities, naming the first.
void check_rows(const torch::Tensor& probs) {
  const auto sums = at_least_float(probs.detach()).sum(1);
  // Entries rounded to bfloat16, also where they come as floats again, are off by a relative 2^-9
  // each, and so may their sum be; logits are off by more.
  constexpr double kTolerance = 0x1p-7;
  // Not "wrong where above the tolerance": NaN is above nothing.
  const auto wrong = (sums - 1).abs().le(kTolerance).logical_not().nonzero();
  if (wrong.size(0) == 0) return;
  const auto row = wrong[0][0].item<int64_t>();
  throw ArgumentError(concat("load_balance_loss: every row of probs must sum to 1 within ",
                             kTolerance, "; row ", row, " sums to ", sums[row].item<double>(),
                             " (were logits given?)"));
}

void check_shapes(const torch::Tensor& probs, const torch::Tensor& expert) {
  MOEKIT_CHECK(probs.dim() == 2 && expert.dim() == 1,
               "load_balance_loss: probs must be [N, E] and expert [A]; got ", probs.sizes(),
               " and ", expert.sizes());
}

/// E * sum_i w_i f_i mean(values_i). @param values [N, E] @param weight [E]; undefined: ones
torch::Tensor balance_of(const torch::Tensor& values, const torch::Tensor& expert,
                         const torch::Tensor& weight = {}) {
  const int64_t num_experts = values.size(1);
  const auto v = at_least_float(values);
  if (expert.size(0) == 0) return v.sum() * 0;
  const auto counts = torch::bincount(expert, {}, num_experts);
  auto fraction = counts.to(v.scalar_type()) / static_cast<double>(expert.numel());
  if (weight.defined()) fraction = fraction * weight.to(v.scalar_type());
  return static_cast<double>(num_experts) * (fraction * v.mean(0)).sum();
}

/// Experts that compute, of all the model's mixtures, which are alike.
int64_t computing_of(const LossSite& site) {
  int64_t computing = 0;
  for (const auto& layer : site.layers) {
    const int64_t own = layer.experts->num_computing();
    MOEKIT_CHECK(computing == 0 || own == computing,
                 "balance_tau: layers have different numbers of experts that compute: ", computing,
                 " and, in ", layer.name, ", ", own);
    computing = own;
  }
  return computing;
}

int64_t most_experts(const LossSite& site) {
  int64_t most = 0;
  for (const auto& layer : site.layers) most = std::max(most, layer.experts->num_experts());
  return most;
}

}  // namespace

torch::Tensor load_balance_loss(const torch::Tensor& probs, const torch::Tensor& expert) {
  check_shapes(probs, expert);
  if (expert.size(0) > 0) check_rows(probs);
  return balance_of(probs, expert);
}

torch::Tensor weighted_balance_loss(const torch::Tensor& probs, const torch::Tensor& expert,
                                    const torch::Tensor& weight) {
  check_shapes(probs, expert);
  MOEKIT_CHECK(weight.dim() == 1 && weight.size(0) == probs.size(1),
               "weighted_balance_loss: weight must be [", probs.size(1), "]; got ", weight.sizes());
  if (expert.size(0) > 0) check_rows(probs);
  return balance_of(probs, expert, weight);
}

torch::Tensor logit_balance_loss(const torch::Tensor& logits, const torch::Tensor& expert) {
  check_shapes(logits, expert);
  return balance_of(logits, expert);
}

torch::Tensor sequence_balance_loss(const Routing& routing) {
  const auto& sequence = routing.sequence;
  MOEKIT_CHECK(sequence.defined(),
               "sequence_balance_loss: wants the routing of tokens [B, T, D]; these came flat");
  check_shapes(routing.probs, routing.expert);
  const auto p = at_least_float(routing.probs);
  if (routing.num_assignments() == 0) return p.sum() * 0;
  check_rows(routing.probs);
  const int64_t experts = routing.num_experts();
  const int64_t sequences = sequence.max().item<int64_t>() + 1;
  const auto of_assignment = sequence.index_select(0, routing.token);
  const auto counts =
      torch::bincount(of_assignment * experts + routing.expert, {}, sequences * experts)
          .view({sequences, experts})
          .to(p.scalar_type());
  const auto assignments = counts.sum(1, true);
  const auto tokens = torch::bincount(sequence, {}, sequences).to(p.scalar_type()).unsqueeze(1);
  const auto mean = torch::zeros({sequences, experts}, p.options().requires_grad(false))
                        .index_add(0, sequence, p) /
                    tokens.clamp_min(1);
  // A sequence that is masked as a whole has no tokens and counts for nothing.
  const auto of_sequence = (counts / assignments.clamp_min(1) * mean).sum(1);
  const auto there = assignments.gt(0).sum().to(p.scalar_type());
  return static_cast<double>(experts) * of_sequence.sum() / there;
}

void check_balance_loss(const BalanceLossOptions& options, const LossSite& site,
                        const std::string& where) {
  check_router_learns(options.balance, site, where + ".balance");
  const bool plain = options.balance_of == BalanceOf::kProbs &&
                     options.count == BalanceCount::kAll && !options.per_sequence &&
                     options.tau == 1;
  MOEKIT_CHECK(
      options.balance > 0 || plain, where,
      ": balance_of, balance_count, balance_tau and balance_per_sequence have no effect while "
      "balance is 0");
  MOEKIT_CHECK(options.tau == 1 || computing_of(site) < most_experts(site), where,
               ".balance_tau: all experts of this model compute; wanted 1, or expert.kind = "
               "\"zero_computation\"");
  MOEKIT_CHECK(
      options.tau == 1 || (options.balance_of == BalanceOf::kProbs && !options.per_sequence), where,
      ".balance_tau goes with balance_of = \"probs\" over the whole batch");
  MOEKIT_CHECK(!options.per_sequence || options.count == BalanceCount::kAll, where,
               ".balance_count: the balance within sequences counts all assignments");
  MOEKIT_CHECK(!options.per_sequence || options.balance_of == BalanceOf::kProbs, where,
               ".balance_of: the balance within sequences is of probs");
}

AuxLoss make_balance_loss(const BalanceLossOptions& options, const LossSite& site) {
  const int64_t computing = options.tau == 1 ? 0 : computing_of(site);
  return make_aux_loss("balance", options.balance, [options, computing](const AuxLossInput& in) {
    if (options.per_sequence) return sequence_balance_loss(in.routing);
    const auto expert =
        options.count == BalanceCount::kFirst ? top1_expert(in.routing) : in.routing.expert;
    if (options.tau != 1) {
      auto weight = torch::full({in.routing.num_experts()}, options.tau, torch::kFloat);
      weight.narrow(0, 0, computing).fill_(1);
      return weighted_balance_loss(in.routing.probs, expert, weight);
    }
    return options.balance_of == BalanceOf::kLogits ? logit_balance_loss(in.routing.logits, expert)
                                                    : load_balance_loss(in.routing.probs, expert);
  });
}

}  // namespace moekit::nn
