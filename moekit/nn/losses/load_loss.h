#pragma once

#include "moekit/core/field_rule.h"
#include "moekit/nn/losses/aux_loss.h"

namespace moekit::nn {

/// Squared coefficient of variation of a smooth estimate of the load: Load_i = sum_n P(expert i is
/// among the top K of token n when its own noise is drawn again), P by the normal distribution.
/// Gradient flows into the clean logits and the noise size.
/// Source: Shazeer et al. 2017, arXiv:1701.06538, appendix A, eq. 8-11.
/// @throws ArgumentError unless the routing carries Gaussian noise and every token has K < E
/// experts: without them the
///         estimate has no gradient, and a loss that silently does nothing is refused.
torch::Tensor load_loss(const Routing& routing);

/// Its key in a recipe's section `loss`.
struct LoadLossOptions {
  double load = 0;  ///< coefficient

  template <typename Field>
  void visit(Field&& field) {
    field("load", load, "equal number of tokens per expert, needs noise = \"gaussian\"",
          at_least(0));
  }
};
void check_load_loss(const LoadLossOptions& options, const LossSite& site,
                     const std::string& where);
AuxLoss make_load_loss(const LoadLossOptions& options, const LossSite& site);

}  // namespace moekit::nn
