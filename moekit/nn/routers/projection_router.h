#pragma once

#include <vector>

#include "moekit/nn/router.h"

namespace moekit::nn {

/// What routers of one linear map without an offset share: logits are tokens W'.
class ProjectionRouterImpl : public RouterImpl {
 public:
  void reset_parameters(const at::Generator& generator) override;
  torch::Tensor directions() const override { return weight.detach(); }
  std::vector<torch::Tensor> expert_rows() const override { return {weight}; }
  int64_t num_experts() const override { return weight.size(0); }

  torch::Tensor weight;  ///< W [E, D]

 protected:
  /// For reset(): registers the weight, not drawn yet.
  void register_weight(int64_t num_experts, int64_t hidden_size);
  /// [N, E] in the wider type of tokens and weight, float32 at least.
  /// @param who  for the message @throws ArgumentError unless tokens are [N, D]
  torch::Tensor logits_of(const char* who, const torch::Tensor& tokens) const;
};

}  // namespace moekit::nn
