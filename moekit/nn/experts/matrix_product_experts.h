#pragma once

#include <torch/nn/pimpl.h>

#include <array>

#include "moekit/nn/cloneable.h"
#include "moekit/nn/experts/mlp_experts.h"
#include "moekit/nn/matrix_product.h"

namespace moekit::nn {

struct MatrixProductOptions {
  MlpExpertsOptions mlp;  ///< sizes and activation of the experts that the products stand for
  /// i of D and of F, as many, an odd number; empty: five balanced_factors().
  TORCH_ARG(std::vector<int64_t>, token_factors);
  TORCH_ARG(std::vector<int64_t>, hidden_factors);
  TORCH_ARG(int64_t, max_bond) = 0;  ///< indices of a bond at most; 0: all, the products are exact

 public:
  template <typename Field>
  void visit(Field&& field) {
    mlp.visit(field);
    field("token_factors", token_factors_,
          "of a token's size, the middle one is the shared tensor's; empty: five", at_least(1));
    field("hidden_factors", hidden_factors_, "of intermediate_size, as many", at_least(1));
    field("max_bond", max_bond_, "indices of a bond at most; 0: all, the products are exact",
          at_least(0));
  }
};

/// Feed-forward experts whose matrices are matrix products with a central tensor that all experts
/// share: E experts have the numbers of about one matrix, and a few percent for each expert. The
/// matrices are made anew in every forward pass, [E, F, D] and so on, and run as those of
/// `MlpExperts`. All experts are alike at first. Source: Gao et al. 2022 (MPOE), arXiv:2203.01104.
class MatrixProductExpertsImpl : public Cloneable<MatrixProductExpertsImpl, ExpertsImpl> {
 public:
  /// @throws ArgumentError when factors do not make up the sizes, and as MlpExperts; also for
  /// `weights` that are rounded, and outputs of another size than tokens
  explicit MatrixProductExpertsImpl(MatrixProductOptions options);
  void reset() override;
  /// Draws a network as MlpExperts does and makes all experts it.
  void reset_parameters(const at::Generator& generator) override;
  int64_t num_experts() const override { return options.mlp.num_experts(); }
  int64_t output_size() const override { return options.mlp.output_size(); }
  int64_t feature_size() const override { return options.mlp.intermediate_size(); }
  ExpertOutput forward_all(const torch::Tensor& tokens) override;
  torch::Tensor forward_routed(const torch::Tensor& rows, const RoutingPlan& plan) override;
  torch::Tensor forward_fused(const torch::Tensor& tokens, const RoutingPlan& plan,
                              const torch::Tensor& weight,
                              const std::shared_ptr<Runtime>& runtime) override;
  std::string why_not_fused(const torch::Tensor& tokens) const override;
  void take_experts(ExpertEdit& edit) override;
  std::vector<torch::Tensor> shared_parameters() const override;
  const MlpExpertsOptions* network_options() const override { return &options.mlp; }
  /// Takes the first network, decomposed, for all. @throws ArgumentError unless all are the same
  void set_networks(const FfnParameters& networks) override;

  /// The matrices that the products stand for, with their graph.
  FfnParameters networks() const;

  MatrixProductOptions options;

 private:
  /// One matrix of every expert.
  struct Product {
    ProductShape shape;
    std::vector<torch::Tensor> tensors;  ///< the central one [b, i, j, b'], others [E, b, i, j, b']
  };
  Product make_product(const std::string& name, const ProductShape& shape);
  void set_product(const Product& product, const torch::Tensor& matrix) const;
  MlpExpertsOptions one_network() const;

  Product gate_;  ///< without tensors where there is no gate
  Product up_;
  Product down_;
  torch::Tensor gate_bias_, up_bias_, down_bias_;  ///< [E, ..], undefined without
  FusedFfn fused_;
};
TORCH_MODULE(MatrixProductExperts);

void check_matrix_product_experts(const MatrixProductOptions& options, const LayerSite& site,
                                  const std::string& where);
std::shared_ptr<ExpertsImpl> make_matrix_product_experts(const MatrixProductOptions& options,
                                                         const LayerSite& site);

}  // namespace moekit::nn
