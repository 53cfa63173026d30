#include "moekit/models/parts.h"

#include <torch/types.h>

#include "moekit/core/error.h"
#include "moekit/nn/cloneable.h"
#include "moekit/nn/experts/conv_experts.h"
#include "moekit/nn/experts/linear_experts.h"
#include "moekit/nn/experts/mlp_experts.h"
#include "moekit/nn/experts/patch_experts.h"
#include "moekit/nn/parts.h"
#include "moekit/nn/routers/attentive_router.h"
#include "moekit/nn/routers/oracle_router.h"
#include "moekit/nn/routers/patch_sum.h"

namespace moekit::models {
namespace {

nn::ConvNetOptions net_options(const NetConfig& net, const InputShape& input, int64_t copies) {
  return nn::ConvNetOptions(input.channels, input.height, input.width)
      .blocks(net.conv)
      .hidden(net.hidden)
      .num_networks(copies);
}

nn::LinearRouterOptions linear_options(const ModelConfig& config, int64_t hidden_size) {
  const RouterConfig& router = config.router;
  return nn::LinearRouterOptions(hidden_size, config.num_experts)
      .top_k(router.top_k)
      .combine_weights(router.combine_weights)
      .temperature(router.temperature)
      .noise(router.noise)
      .noise_scale(router.noise_scale)
      .init(router.init)
      .bias(router.bias);
}

/// Flattens images in front of experts or routers that take vectors.
struct FlattenImpl : torch::nn::Cloneable<FlattenImpl> {
  void reset() override {}
  torch::Tensor forward(const torch::Tensor& images) { return images.flatten(1); }
};
TORCH_MODULE(Flatten);

/// Vector experts on images: `Experts` that flattens its input first.
class FlatExpertsImpl : public nn::Cloneable<FlatExpertsImpl, nn::ExpertsImpl> {
 public:
  explicit FlatExpertsImpl(std::shared_ptr<nn::ExpertsImpl> inner) : inner_(std::move(inner)) {
    nn::register_part(*this, "inner", inner_);
  }
  void reset() override { nn::register_copy(*this, "inner", inner_); }
  void reset_parameters(const at::Generator& generator) override {
    inner_->reset_parameters(generator);
  }
  int64_t num_experts() const override { return inner_->num_experts(); }
  int64_t output_size() const override { return inner_->output_size(); }
  int64_t feature_size() const override { return inner_->feature_size(); }
  nn::ExpertOutput forward_all(const torch::Tensor& images) override {
    return inner_->forward_all(images.flatten(1));
  }
  torch::Tensor forward_routed(const torch::Tensor& rows, const nn::DispatchPlan& plan) override {
    return inner_->forward_routed(rows.flatten(1), plan);
  }
  void take_experts(nn::ExpertEdit& edit) override { inner_->take_experts(edit); }
  torch::Tensor directions() const override { return inner_->directions(); }

 private:
  std::shared_ptr<nn::ExpertsImpl> inner_;
};

}  // namespace

std::shared_ptr<nn::ExpertsImpl> make_image_experts(const ModelConfig& config,
                                                    const InputShape& input, int64_t num_experts) {
  const ExpertConfig& expert = config.expert;
  const int64_t pixels = input.channels * input.height * input.width;
  switch (expert.kind) {
    case ExpertKind::kConv:
      return std::make_shared<nn::ConvExpertsImpl>(
          nn::ConvExpertsOptions(net_options(expert.net, input, num_experts), input.num_classes));
    case ExpertKind::kMlp:
      return std::make_shared<FlatExpertsImpl>(std::make_shared<nn::MlpExpertsImpl>(
          nn::MlpExpertsOptions(pixels, expert.intermediate_size, num_experts)
              .output_size(input.num_classes)
              .activation(expert.activation)));
    case ExpertKind::kLinear:
      return std::make_shared<FlatExpertsImpl>(std::make_shared<nn::LinearExpertsImpl>(
          nn::LinearExpertsOptions(pixels, input.num_classes, num_experts)));
    case ExpertKind::kPatch:
      return std::make_shared<nn::PatchExpertsImpl>(
          nn::PatchExpertsOptions(input.width, input.num_classes, num_experts)
              .num_filters(expert.num_filters)
              .activation(expert.activation)
              .init_scale(expert.init_scale));
  }
  throw ArgumentError("model.expert.kind: unknown");
}

std::shared_ptr<nn::RouterImpl> make_image_router(const ModelConfig& config,
                                                  const InputShape& input) {
  const RouterConfig& router = config.router;
  if (router.kind == RouterKind::kOracle) {
    return std::make_shared<nn::OracleRouterImpl>(nn::OracleRouterOptions(router.groups));
  }
  torch::nn::AnyModule trunk{Flatten()};
  int64_t hidden_size = input.channels * input.height * input.width;
  if (!router.trunk.hidden.empty()) {
    trunk =
        torch::nn::AnyModule(nn::ConvTrunk(net_options(router.trunk, input, 1), router.trunk_relu));
    hidden_size = router.trunk.hidden.back();
  } else if (router.input == RouterInput::kPatchSum) {
    const int64_t side = router.patch_size;
    trunk = torch::nn::AnyModule(nn::PatchSum(side));
    hidden_size = input.channels * (side > 0 ? side * side : input.width);
  }
  if (router.kind == RouterKind::kAttentive) {
    return std::make_shared<nn::AttentiveRouterImpl>(
        nn::AttentiveRouterOptions(hidden_size, config.num_experts)
            .top_k(router.top_k)
            .combine_weights(router.combine_weights),
        trunk);
  }
  return std::make_shared<nn::LinearRouterImpl>(linear_options(config, hidden_size), trunk);
}

std::shared_ptr<nn::RouterImpl> make_vector_router(const ModelConfig& config, int64_t hidden_size) {
  if (config.router.kind == RouterKind::kAttentive) {
    return std::make_shared<nn::AttentiveRouterImpl>(
        nn::AttentiveRouterOptions(hidden_size, config.num_experts)
            .top_k(config.router.top_k)
            .combine_weights(config.router.combine_weights));
  }
  if (config.router.kind == RouterKind::kOracle) {
    return std::make_shared<nn::OracleRouterImpl>(nn::OracleRouterOptions(config.router.groups));
  }
  return std::make_shared<nn::LinearRouterImpl>(linear_options(config, hidden_size));
}

std::shared_ptr<nn::ExpertsImpl> make_vector_experts(const ModelConfig& config, int64_t hidden_size,
                                                     int64_t num_experts) {
  if (config.expert.kind == ExpertKind::kLinear) {
    return std::make_shared<nn::LinearExpertsImpl>(
        nn::LinearExpertsOptions(hidden_size, hidden_size, num_experts));
  }
  return std::make_shared<nn::MlpExpertsImpl>(
      nn::MlpExpertsOptions(hidden_size, config.expert.intermediate_size, num_experts)
          .activation(config.expert.activation));
}

}  // namespace moekit::models
