#pragma once

#include <torch/types.h>

#include "moekit/nn/losses/aux_loss.h"

namespace moekit::nn {

/// E * sum_i f_i P_i, with f_i the share of the A assignments that expert i got (a constant for
/// the gradient) and P_i the mean of its router_probs. 1 when load and probabilities are uniform,
/// E / K when every token goes to the same K experts with all mass on them.
/// The softmax is taken once, by whoever made `probs`: pass probabilities, never logits.
/// Source: Fedus et al. 2021, arXiv:2101.03961, eq. 4-6 (K = 1), normalized by the number of
/// assignments.
/// @param probs [N, E] @param expert [A] int64, the expert of every assignment. 0 without any.
/// @throws ArgumentError when a row of probs does not sum to 1 (logits given by mistake).
torch::Tensor load_balance_loss(const torch::Tensor& probs, const torch::Tensor& expert);

/// Its key in a recipe's section `loss`.
struct BalanceLossOptions {
  double balance = 0;  ///< coefficient

  template <typename Field>
  void visit(Field&& field) {
    field("balance", balance, "load-balance loss (Fedus et al. 2021)");
  }
};
void check_balance_loss(const BalanceLossOptions& options, const LossSite& site,
                        const std::string& where);
AuxLoss make_balance_loss(const BalanceLossOptions& options, const LossSite& site);

}  // namespace moekit::nn
