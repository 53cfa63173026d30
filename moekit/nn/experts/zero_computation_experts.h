#pragma once

#include <torch/nn/pimpl.h>

#include "moekit/nn/cloneable.h"
#include "moekit/nn/experts/mlp_experts.h"

namespace moekit::nn {

struct ZeroComputationOptions {
  MlpExpertsOptions mlp;  ///< of the others; its num_experts is theirs alone
  TORCH_ARG(int64_t, constant_experts) = 2;
  TORCH_ARG(int64_t, copy_experts) = 1;
  TORCH_ARG(int64_t, zero_experts) = 1;

 public:
  template <typename Field>
  void visit(Field&& field) {
    mlp.visit(field);
    field("constant_experts", constant_experts_, "that blend a token with a learned vector",
          at_least(0));
    field("copy_experts", copy_experts_, "that give the token itself", at_least(0));
    field("zero_experts", zero_experts_, "that give zeros", at_least(0));
  }
  /// Experts that multiply no matrix.
  int64_t num_free() const { return constant_experts_ + copy_experts_ + zero_experts_; }
};

/// Feed-forward experts, and behind them, in this order, experts that cost next to nothing:
/// constant ones, a_1 x + a_2 v with [a_1, a_2] = softmax(W_c x), copies, x, and zeros. A token
/// that chooses one of these is spared a feed-forward network. Source: Jin et al. 2024 (MoE++),
/// arXiv:2410.07348, eq. 3-5, in the released code's order.
class ZeroComputationExpertsImpl : public Cloneable<ZeroComputationExpertsImpl, ExpertsImpl> {
 public:
  /// @throws ArgumentError unless outputs have the tokens' size and there are experts of both
  /// sorts.
  explicit ZeroComputationExpertsImpl(ZeroComputationOptions options);
  void reset() override;
  void reset_parameters(const at::Generator& generator) override;
  int64_t num_experts() const override { return ffn->num_experts() + options.num_free(); }
  int64_t num_computing() const override { return ffn->num_experts(); }
  int64_t output_size() const override { return ffn->output_size(); }
  ExpertOutput forward_all(const torch::Tensor& tokens) override;
  torch::Tensor forward_routed(const torch::Tensor& rows, const RoutingPlan& plan) override;
  torch::Tensor forward_fused(const torch::Tensor& tokens, const RoutingPlan& plan,
                              const torch::Tensor& weight,
                              const std::shared_ptr<Runtime>& runtime) override;
  std::string why_not_fused(const torch::Tensor& tokens) const override {
    return ffn->why_not_fused(tokens);
  }
  /// @throws ArgumentError for another choice than all in order: an expert's place says what it is.
  void take_experts(ExpertEdit& edit) override;

  ZeroComputationOptions options;
  MlpExperts ffn{nullptr};
  torch::Tensor constant;  ///< v [constant experts, D]; undefined without
  torch::Tensor blend;     ///< W_c [constant experts, 2, D]; undefined without

 private:
  /// What free expert `which`, from 0, gives for rows [R, D].
  torch::Tensor free_expert(int64_t which, const torch::Tensor& rows) const;
};
TORCH_MODULE(ZeroComputationExperts);

void check_zero_computation_experts(const ZeroComputationOptions& options, const LayerSite& site,
                                    const std::string& where);
std::shared_ptr<ExpertsImpl> make_zero_computation_experts(const ZeroComputationOptions& options,
                                                           const LayerSite& site);

}  // namespace moekit::nn
