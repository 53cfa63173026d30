#pragma once

#include <torch/types.h>

#include "moekit/core/enum_names.h"
#include "moekit/core/field_rule.h"
#include "moekit/nn/losses/aux_loss.h"

namespace moekit::nn {

/// E * sum_i f_i P_i, with f_i the share of the A assignments that expert i got (a constant for
/// the gradient) and P_i the mean of its router_probs. 1 when load and probabilities are uniform,
/// E / K when every token goes to the same K experts with all mass on them.
/// The softmax is taken once, by whoever made `probs`: pass probabilities, never logits.
/// Source: Fedus et al. 2021, arXiv:2101.03961, eq. 4-6 (K = 1), normalized by the number of
/// assignments.
/// @param probs [N, E] @param expert [A] int64, the expert of every assignment. 0 without any.
/// @throws ArgumentError naming the row when one of probs does not sum to 1 (logits given by
/// mistake).
torch::Tensor load_balance_loss(const torch::Tensor& probs, const torch::Tensor& expert);

/// The same where experts' terms have weights: E * sum_i w_i f_i P_i. @param weight [E]
torch::Tensor weighted_balance_loss(const torch::Tensor& probs, const torch::Tensor& expert,
                                    const torch::Tensor& weight);

/// The same with the mean of the logits in place of probabilities, noise included, unbounded below:
/// it lowers the logits of experts that get more. Source: the released code of Chen et al. 2022,
/// arXiv:2208.02813, for its synthetic data.
/// @param logits [N, E] @param expert [A] int64, the expert of every assignment. 0 without any.
torch::Tensor logit_balance_loss(const torch::Tensor& logits, const torch::Tensor& expert);

/// The same of each sequence alone, with f_i and P_i over its tokens, mean over the sequences that
/// have any: balanced within every sequence, and not only over the batch. Masked tokens are in
/// none. Source: DeepSeek-AI 2024, arXiv:2412.19437, eq. 17-20, normalized by the number of
/// assignments.
/// @throws ArgumentError unless the routing is of tokens [B, T, D]; as load_balance_loss()
torch::Tensor sequence_balance_loss(const Routing& routing);

enum class BalanceOf { kProbs, kLogits };
/// Which assignments f_i counts.
enum class BalanceCount {
  kAll,
  kFirst,  ///< each token's first choice alone: Lepikhin et al. 2020, arXiv:2006.16668, alg. 1
};

/// Its keys in a recipe's section `loss`.
struct BalanceLossOptions {
  double balance = 0;  ///< coefficient
  bool per_sequence = false;
  BalanceOf balance_of = BalanceOf::kProbs;
  BalanceCount count = BalanceCount::kAll;
  /// tau: weight of the terms of experts that compute nothing (`ExpertsImpl::num_computing`), so
  /// that each of them gets about 1 / tau times the load of one that does. Source: Jin et al. 2024,
  /// arXiv:2410.07348, eq. 7, whose loss is K / E times this one.
  double tau = 1;

  template <typename Field>
  void visit(Field&& field) {
    field("balance", balance, "load-balance loss (Fedus et al. 2021)", at_least(0));
    field("balance_of", balance_of,
          "what it is the mean of: probs, or logits with their noise (Chen et al. 2022)");
    field("balance_count", count, "whose load: of all assignments, or of first choices");
    field("balance_tau", tau,
          "weight of experts that compute nothing, which get 1 / tau times the load of the others",
          above(0));
    field("balance_per_sequence", per_sequence,
          "within each sequence, of networks that take any (DeepSeek-AI 2024)");
  }
};
void check_balance_loss(const BalanceLossOptions& options, const LossSite& site,
                        const std::string& where);
AuxLoss make_balance_loss(const BalanceLossOptions& options, const LossSite& site);

}  // namespace moekit::nn

template <>
struct moekit::EnumNames<moekit::nn::BalanceOf> {
  static constexpr std::array<std::pair<nn::BalanceOf, std::string_view>, 2> kTable{{
      {nn::BalanceOf::kProbs, "probs"},
      {nn::BalanceOf::kLogits, "logits"},
  }};
};
template <>
struct moekit::EnumNames<moekit::nn::BalanceCount> {
  static constexpr std::array<std::pair<nn::BalanceCount, std::string_view>, 2> kTable{{
      {nn::BalanceCount::kAll, "all"},
      {nn::BalanceCount::kFirst, "first"},
  }};
};
