#pragma once

#include <torch/types.h>

#include "moekit/core/field_rule.h"
#include "moekit/nn/losses/aux_loss.h"

namespace moekit::nn {

/// Mean over tokens of logsumexp(logits)^2: keeps router logits small.
/// Source: Zoph et al. 2022, arXiv:2202.08906, eq. 5.
/// @param logits [N, E]; gets its gradient. 0 for N = 0.
torch::Tensor router_z_loss(const torch::Tensor& logits);

/// Its key in a recipe's section `loss`.
struct RouterZLossOptions {
  double router_z = 0;  ///< coefficient

  template <typename Field>
  void visit(Field&& field) {
    field("router_z", router_z, "small logits (Zoph et al. 2022)", at_least(0));
  }
};
void check_router_z_loss(const RouterZLossOptions& options, const LossSite& site,
                         const std::string& where);
AuxLoss make_router_z_loss(const RouterZLossOptions& options, const LossSite& site);

}  // namespace moekit::nn
