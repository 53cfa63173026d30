#pragma once

#include <torch/nn/module.h>

#include "moekit/merge/aggregate.h"
#include "moekit/nn/experts/mlp_experts.h"

namespace moekit::federated {

/// The weights a run keeps from round to round, as banks of networks that no optimizer trains.
class Federation : public torch::nn::Module {
 public:
  /// Draws the first global weights; all others are copies of them.
  /// @param net  one network @param memory  rounds that are looked back, from 0
  Federation(const nn::MlpExpertsOptions& net, int64_t memory, const at::Generator& generator);

  merge::WeightSet global() const { return nn::expert_tensors(*global_, 0); }
  merge::WeightSet control() const { return nn::expert_tensors(*control_, 0); }
  /// The global weights of `memory` rounds before this one, or the first; empty without memory.
  merge::WeightSet past(int64_t round) const;
  /// Ends a round: what is remembered of it, then its results.
  void move_on(int64_t round, const merge::WeightSet& global, const merge::WeightSet& control);
  int64_t parameters_of_one() const;

 private:
  nn::MlpExperts global_{nullptr};   ///< w_g
  nn::MlpExperts control_{nullptr};  ///< what the server has learnt alone
  nn::MlpExperts past_{nullptr};     ///< w_g of round r in expert r mod memory; absent without
};

/// Share of right answers and mean cross-entropy of one network.
/// @param pixels  [N, D] @param labels  [N] int64
struct Judged {
  double accuracy = 0;
  double loss = 0;
};
Judged judge(const merge::WeightSet& weights, const nn::MlpExpertsOptions& net,
             const torch::Tensor& pixels, const torch::Tensor& labels);

}  // namespace moekit::federated
