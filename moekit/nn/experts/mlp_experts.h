#pragma once

#include <torch/nn/pimpl.h>

#include "moekit/core/field_rule.h"
#include "moekit/kernels/ffn/packed_experts.h"
#include "moekit/nn/activation.h"
#include "moekit/nn/bit_linear.h"
#include "moekit/nn/cloneable.h"
#include "moekit/nn/experts.h"
#include "moekit/nn/fused_ffn.h"
#include "moekit/nn/layer_site.h"

namespace moekit::nn {

/// First weights of experts.
enum class ExpertInit {
  kDefault,     ///< all uniform, see init_uniform_fan_in()
  kZeroOutput,  ///< down_proj and all biases 0: adapters that add nothing at first
};

/// Options of `MlpExperts`. Example: `MlpExpertsOptions(64, 256, 8).activation(kSwiglu)`.
struct MlpExpertsOptions {
  MlpExpertsOptions() = default;
  MlpExpertsOptions(int64_t hidden_size, int64_t intermediate_size, int64_t num_experts)
      : hidden_size_(hidden_size),
        intermediate_size_(intermediate_size),
        num_experts_(num_experts),
        output_size_(hidden_size) {}
  TORCH_ARG(int64_t, hidden_size) = 0;         ///< D
  TORCH_ARG(int64_t, intermediate_size) = 64;  ///< F
  TORCH_ARG(int64_t, num_experts) = 0;         ///< E
  TORCH_ARG(int64_t, output_size) = 0;         ///< O, D unless set
  TORCH_ARG(Activation, activation) = Activation::kRelu;
  TORCH_ARG(bool, bias) = true;
  TORCH_ARG(ExpertInit, init) = ExpertInit::kDefault;
  /// What the matrices are in the forward pass; other levels than kFloat run on libtorch's
  /// operations while they are learned, see bit_ffn().
  TORCH_ARG(WeightLevels, weights) = WeightLevels::kFloat;
  /// What the fused kernels multiply in: bf16 rounds operands, weights and sums stay float.
  TORCH_ARG(kernels::ComputeType, compute) = kernels::ComputeType::kF32;
  /// Keep gate and up values for the backward pass (8 * A * F bytes, gated) or compute them again.
  TORCH_ARG(bool, keep_activations) = true;

 public:
  /// Names what a recipe chooses; sizes come from the layer.
  template <typename Field>
  void visit(Field&& field) {
    field("intermediate_size", intermediate_size_, "F", at_least(1));
    field("activation", activation_, "of the hidden layer; gated kinds have a gate_proj");
    field("bias", bias_, "whether the projections have one");
    field("init", init_, "first weights; zero_output: adapters that add nothing at first");
    field("weights", weights_,
          "levels they are rounded to in forward passes, inputs to 8 bits (BitNet)");
    field("compute", compute_, "operands of the fused kernels' products");
    field("keep_activations", keep_activations_, "for the backward pass, or compute them again");
  }
};

/// Feed-forward experts, stacked: down_proj act(up_proj x), or
/// down_proj (act(gate_proj x) * up_proj x) for the gated activations. With ternary or binary
/// `weights` they are learned through their rounding, see bit_linear.h.
/// Source: Shazeer 2020, arXiv:2002.05202, eq. 6 (gated forms).
class MlpExpertsImpl : public Cloneable<MlpExpertsImpl, ExpertsImpl> {
 public:
  /// @throws ArgumentError unless all sizes are at least 1, and for options of the fused kernel
  /// with weights that have none.
  explicit MlpExpertsImpl(MlpExpertsOptions options);
  void reset() override;
  void reset_parameters(const at::Generator& generator) override;
  int64_t num_experts() const override { return up_proj.size(0); }
  int64_t output_size() const override { return options.output_size(); }
  int64_t feature_size() const override { return options.intermediate_size(); }
  ExpertOutput forward_all(const torch::Tensor& tokens) override;
  torch::Tensor forward_routed(const torch::Tensor& rows, const RoutingPlan& plan) override;
  torch::Tensor forward_fused(const torch::Tensor& tokens, const RoutingPlan& plan,
                              const torch::Tensor& weight,
                              const std::shared_ptr<Runtime>& runtime) override;
  std::string why_not_fused(const torch::Tensor& tokens) const override;
  void take_experts(ExpertEdit& edit) override;
  const MlpExpertsOptions* network_options() const override { return &options; }
  void set_networks(const FfnParameters& networks) override;
  std::optional<std::vector<HiddenUnits>> hidden_units() const override;
  /// Of activation "identity".
  std::optional<MatrixPair> matrix_pair() const override;

  /// From here on forward passes run on the inference kernels with weights of this format, made of
  /// the present ones, which stay behind; the model is not for training until unpack(). Calling
  /// reset_parameters(), take_experts() or clone() unpacks. Ternary and binary weights have the
  /// codes they were learned with.
  /// @throws ArgumentError for an activation without kernel, ternary or binary weights in another
  /// format than ternary, parameters that are not float32 on the CPU, and as PackedExperts
  void pack(kernels::WeightFormat format);
  void unpack() { packed_.reset(); }
  /// Null where they are not packed.
  const kernels::PackedExperts* packed() const { return packed_.get(); }

  MlpExpertsOptions options;
  torch::Tensor gate_proj;  ///< [E, F, D], gated activations only
  torch::Tensor up_proj;    ///< [E, F, D]
  torch::Tensor down_proj;  ///< [E, O, F]
  torch::Tensor gate_bias;  ///< [E, F], undefined without bias or gate
  torch::Tensor up_bias;    ///< [E, F]
  torch::Tensor down_bias;  ///< [E, O]

 private:
  FusedFfn fused_;
  std::shared_ptr<const kernels::PackedExperts> packed_;
};
TORCH_MODULE(MlpExperts);

/// Flattens images.
std::shared_ptr<ExpertsImpl> make_mlp_experts(const MlpExpertsOptions& options,
                                              const LayerSite& site);

}  // namespace moekit::nn

template <>
struct moekit::EnumNames<moekit::nn::ExpertInit> {
  static constexpr std::array<std::pair<nn::ExpertInit, std::string_view>, 2> kTable{{
      {nn::ExpertInit::kDefault, "default"},
      {nn::ExpertInit::kZeroOutput, "zero_output"},
  }};
};
