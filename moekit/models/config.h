#pragma once

#include <string>
#include <vector>

#include "moekit/nn/activation.h"
#include "moekit/nn/experts/conv_net.h"
#include "moekit/nn/mixture.h"
#include "moekit/nn/routers/linear_router.h"

namespace moekit::models {

enum class ModelKind {
  kSingle,         ///< one expert, no router
  kMixture,        ///< classical mixture of whole classifiers
  kSparse,         ///< patch or vector network with one sparse MoE layer
  kSparseMixture,  ///< sparse layer whose experts are whole classifiers: only the chosen are run
};
enum class ExpertKind { kConv, kMlp, kLinear, kPatch };
/// What the router sees of an image.
enum class RouterInput {
  kFlat,      ///< all pixels
  kPatchSum,  ///< the sum of its patches
};
/// How a sparse mixture's output becomes a loss.
enum class OutputLoss {
  kCrossEntropy,   ///< of the softmax of the output
  kDoubleSoftmax,  ///< softmax taken twice, as a released code does: floor log(1 + (C-1)/e)
};
enum class RouterKind { kLinear, kAttentive, kOracle };

/// A network of convolution blocks and fully connected layers: an expert's, or a router's trunk.
struct NetConfig {
  std::vector<nn::ConvBlock> conv;
  std::vector<int64_t> hidden;

  template <typename Field>
  void visit(Field&& field) {
    field("conv", conv, "blocks { channels, kernel_size, padding, batch_norm }");
    field("hidden", hidden, "fully connected layers; the last gives the features h");
  }
};

struct ExpertConfig {
  ExpertKind kind = ExpertKind::kConv;
  NetConfig net = {{{1, 3, 0, false}}, {5, 32}};
  int64_t intermediate_size = 64;
  nn::Activation activation = nn::Activation::kRelu;
  int64_t num_filters = 8;
  double init_scale = 1;

  template <typename Field>
  void visit(Field&& field) {
    field("kind", kind, "kind of expert");
    field("net", net, "for kind conv");
    field("intermediate_size", intermediate_size, "for kind mlp");
    field("activation", activation, "for kinds mlp and patch");
    field("num_filters", num_filters, "J filters a class, for kind patch");
    field("init_scale", init_scale, "factor on the usual initial weights, for kind patch");
  }
};

struct RouterConfig {
  RouterKind kind = RouterKind::kLinear;
  RouterInput input = RouterInput::kFlat;
  int64_t patch_size = 0;
  NetConfig trunk;
  bool trunk_relu = true;
  int64_t top_k = 0;
  nn::CombineWeights combine_weights = nn::CombineWeights::kRenormalized;
  double temperature = 1;
  nn::RouterNoise noise = nn::RouterNoise::kNone;
  double noise_scale = 1;
  nn::RouterInit init = nn::RouterInit::kDefault;
  bool bias = true;
  std::vector<std::vector<int64_t>> groups;

  template <typename Field>
  void visit(Field&& field) {
    field("kind", kind, "attentive: keys from the experts; oracle: is told the label");
    field("input", input, "what a router without trunk sees of an image");
    field("patch_size", patch_size, "side of a patch; 0: each row is one");
    field("trunk", trunk, "network before the router's own layer; empty: none");
    field("trunk_relu", trunk_relu, "ReLU after the trunk");
    field("top_k", top_k, "experts a sample is sent to; 0 for all");
    field("combine_weights", combine_weights, "weights of the chosen experts");
    field("temperature", temperature, "logits are divided by it");
    field("noise", noise, "on the logits in training");
    field("noise_scale", noise_scale, "its size");
    field("init", init, "initial weights of the router's own layer");
    field("bias", bias, "of the router's own layer");
    field("groups", groups, "for kind oracle: the labels of each expert");
  }
};

/// A network as a recipe describes it. Independent of the data set, whose sizes come in
/// `InputShape`.
struct ModelConfig {
  ModelKind kind = ModelKind::kMixture;
  int64_t num_experts = 5;
  nn::MixtureForm form = nn::MixtureForm::kExpectation;
  int64_t hidden_size = 64;
  double capacity_factor = 0;
  int64_t num_shared_experts = 0;
  OutputLoss output_loss = OutputLoss::kCrossEntropy;
  ExpertConfig expert;
  RouterConfig router;

  template <typename Field>
  void visit(Field&& field) {
    field("kind", kind, "one expert, classical mixture, sparse MoE layer or mixture");
    field("num_experts", num_experts, "E");
    field("form", form, "how a mixture joins its experts");
    field("hidden_size", hidden_size, "D of the sparse model");
    field("capacity_factor", capacity_factor, "of the sparse layer; 0: dropless");
    field("num_shared_experts", num_shared_experts, "of the sparse layer");
    field("output_loss", output_loss, "loss of a sparse mixture");
    field("expert", expert, "");
    field("router", router, "");
  }
};

struct InputShape {
  int64_t channels = 1;
  int64_t height = 28;
  int64_t width = 28;
  int64_t num_classes = 10;

  template <typename Field>
  void visit(Field&& field) {
    field("channels", channels, "");
    field("height", height, "");
    field("width", width, "");
    field("num_classes", num_classes, "C");
  }
};

/// Refuses what cannot be built, before any work.
/// @throws ArgumentError naming the key ("model.router.top_k"), what was wanted and what came.
void validate(const ModelConfig& config, const InputShape& input);

}  // namespace moekit::models

template <>
struct moekit::EnumNames<moekit::models::ModelKind> {
  static constexpr std::array<std::pair<models::ModelKind, std::string_view>, 4> kTable{{
      {models::ModelKind::kSingle, "single"},
      {models::ModelKind::kMixture, "mixture"},
      {models::ModelKind::kSparse, "sparse"},
      {models::ModelKind::kSparseMixture, "sparse_mixture"},
  }};
};
template <>
struct moekit::EnumNames<moekit::models::ExpertKind> {
  static constexpr std::array<std::pair<models::ExpertKind, std::string_view>, 4> kTable{{
      {models::ExpertKind::kConv, "conv"},
      {models::ExpertKind::kMlp, "mlp"},
      {models::ExpertKind::kLinear, "linear"},
      {models::ExpertKind::kPatch, "patch"},
  }};
};
template <>
struct moekit::EnumNames<moekit::models::RouterInput> {
  static constexpr std::array<std::pair<models::RouterInput, std::string_view>, 2> kTable{{
      {models::RouterInput::kFlat, "flat"},
      {models::RouterInput::kPatchSum, "patch_sum"},
  }};
};
template <>
struct moekit::EnumNames<moekit::models::OutputLoss> {
  static constexpr std::array<std::pair<models::OutputLoss, std::string_view>, 2> kTable{{
      {models::OutputLoss::kCrossEntropy, "cross_entropy"},
      {models::OutputLoss::kDoubleSoftmax, "double_softmax"},
  }};
};
template <>
struct moekit::EnumNames<moekit::models::RouterKind> {
  static constexpr std::array<std::pair<models::RouterKind, std::string_view>, 3> kTable{{
      {models::RouterKind::kLinear, "linear"},
      {models::RouterKind::kAttentive, "attentive"},
      {models::RouterKind::kOracle, "oracle"},
  }};
};
