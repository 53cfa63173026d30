#pragma once

#include <torch/types.h>

#include "moekit/core/field_rule.h"
#include "moekit/nn/losses/aux_loss.h"

namespace moekit::nn {

/// Mean over tokens of the entropy of the router's softmax, in nats: 0 when every token is sure of
/// its expert, log E when undecided. From logits, so that a probability of 0 has a finite gradient.
/// @param logits [N, E]. 0 for N = 0.
torch::Tensor entropy_loss(const torch::Tensor& logits);

/// Its key in a recipe's section `loss`.
struct EntropyLossOptions {
  double entropy = 0;  ///< coefficient

  template <typename Field>
  void visit(Field&& field) {
    field("entropy", entropy, "sure decisions; negative for undecided ones",
          at_least(-kMostOfAnything));
  }
};
void check_entropy_loss(const EntropyLossOptions& options, const LossSite& site,
                        const std::string& where);
AuxLoss make_entropy_loss(const EntropyLossOptions& options, const LossSite& site);

}  // namespace moekit::nn
