#pragma once

#include <torch/types.h>

#include "moekit/core/field_rule.h"
#include "moekit/nn/losses/aux_loss.h"

namespace moekit::nn {

/// Squared coefficient of variation of the importances Imp_i = sum_n p_i(x_n):
/// (std(Imp) / mean(Imp))^2 with the unbiased (E - 1) divisor. 0 when all experts get the same
/// mass, E when one gets all. 0 for E = 1 or N = 0. Gradient flows into `probs`.
/// Source: Shazeer et al. 2017, arXiv:1701.06538, eq. 6-7.
/// @param probs [N, E]
torch::Tensor importance_loss(const torch::Tensor& probs);

/// Squared coefficient of variation of a vector [E], unbiased; 0 for fewer than two values or a
/// mean of 0.
torch::Tensor squared_variation(const torch::Tensor& values);

/// Its key in a recipe's section `loss`.
struct ImportanceLossOptions {
  double importance = 0;  ///< coefficient

  template <typename Field>
  void visit(Field&& field) {
    field("importance", importance, "equal mass per expert (Shazeer et al. 2017)", at_least(0));
  }
};
void check_importance_loss(const ImportanceLossOptions& options, const LossSite& site,
                           const std::string& where);
AuxLoss make_importance_loss(const ImportanceLossOptions& options, const LossSite& site);

}  // namespace moekit::nn
