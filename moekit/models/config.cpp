#include "moekit/models/config.h"

#include "moekit/core/error.h"

namespace moekit::models {
namespace {

void check_net(const NetConfig& net, const InputShape& input, const char* key) {
  int64_t height = input.height;
  int64_t width = input.width;
  for (size_t b = 0; b < net.conv.size(); ++b) {
    const auto& block = net.conv[b];
    MOEKIT_CHECK(block.channels >= 1 && block.kernel_size >= 1 && block.padding >= 0, key, ".conv[",
                 b, "]: channels and kernel_size must be at least 1, padding at least 0");
    height = (height + 2 * block.padding - block.kernel_size + 1) / 2;
    width = (width + 2 * block.padding - block.kernel_size + 1) / 2;
    MOEKIT_CHECK(height >= 1 && width >= 1, key, ".conv[", b, "]: leaves no pixel of a ",
                 input.height, "x", input.width, " image");
  }
  MOEKIT_CHECK(!net.hidden.empty(), key, ".hidden: needs at least one size");
  for (const int64_t size : net.hidden) {
    MOEKIT_CHECK(size >= 1, key, ".hidden: sizes must be at least 1; got ", size);
  }
}

/// Size h of what the experts offer as features; 0 when they have none.
int64_t expert_feature_size(const ModelConfig& config) {
  switch (config.expert.kind) {
    case ExpertKind::kConv:
      return config.expert.net.hidden.empty() ? 0 : config.expert.net.hidden.back();
    case ExpertKind::kMlp:
      return config.expert.intermediate_size;
    case ExpertKind::kLinear:
    case ExpertKind::kPatch:
      return 0;
  }
  return 0;
}

void check_router(const ModelConfig& config, const InputShape& input) {
  const RouterConfig& router = config.router;
  MOEKIT_CHECK(router.top_k >= 0 && router.top_k <= config.num_experts,
               "model.router.top_k must be 0 (all) or 1..", config.num_experts,
               " (model.num_experts); got ", router.top_k);
  MOEKIT_CHECK(router.temperature > 0, "model.router.temperature must be positive; got ",
               router.temperature);
  MOEKIT_CHECK(
      router.noise_scale > 0 || (router.noise_scale == 0 && router.noise == nn::RouterNoise::kNone),
      "model.router.noise_scale must be positive with model.router.noise = \"",
      enum_name(router.noise), "\" (an empty range is no noise); got ", router.noise_scale);
  const bool on_images = config.kind != ModelKind::kSparse;
  MOEKIT_CHECK(router.input == RouterInput::kFlat || on_images,
               "model.router.input: the sparse model routes its hidden vectors");
  MOEKIT_CHECK(router.input == RouterInput::kFlat || router.trunk.hidden.empty(),
               "model.router.input = \"patch_sum\" wants no model.router.trunk");
  MOEKIT_CHECK(
      router.patch_size >= 0 && (router.patch_size == 0 || (input.height % router.patch_size == 0 &&
                                                            input.width % router.patch_size == 0)),
      "model.router.patch_size must divide ", input.height, "x", input.width, "; got ",
      router.patch_size);
  if (config.kind == ModelKind::kSparseMixture) {
    MOEKIT_CHECK(router.top_k >= 1, "model.router.top_k: a sparse mixture wants 1..",
                 config.num_experts, "; got 0");
    if (!router.trunk.hidden.empty()) check_net(router.trunk, input, "model.router.trunk");
  } else if (config.kind == ModelKind::kMixture) {
    if (!router.trunk.hidden.empty() || !router.trunk.conv.empty()) {
      check_net(router.trunk, input, "model.router.trunk");
    }
    MOEKIT_CHECK(config.form != nn::MixtureForm::kTopK ||
                     (router.top_k >= 1 && router.top_k < config.num_experts),
                 "model.form = \"top_k\" wants model.router.top_k in 1..", config.num_experts - 1,
                 "; got ", router.top_k);
    MOEKIT_CHECK(config.form == nn::MixtureForm::kTopK || router.top_k == 0,
                 "model.router.top_k = ", router.top_k, " wants model.form = \"top_k\"; got \"",
                 enum_name(config.form), "\", which uses all experts");
  } else {
    MOEKIT_CHECK(router.trunk.hidden.empty() && router.trunk.conv.empty(),
                 "model.router.trunk: the sparse model routes its hidden vectors, without a trunk");
  }
  if (router.kind == RouterKind::kAttentive) {
    const int64_t wanted = expert_feature_size(config);
    int64_t got = input.channels * input.height * input.width;
    if (config.kind == ModelKind::kSparse) got = config.hidden_size;
    if (!router.trunk.hidden.empty()) got = router.trunk.hidden.back();
    MOEKIT_CHECK(wanted > 0, "model.router.kind = \"attentive\": experts of kind \"",
                 enum_name(config.expert.kind), "\" have no hidden vector to attend to");
    MOEKIT_CHECK(wanted == got,
                 "model.router.kind = \"attentive\" wants equal h: the experts' "
                 "hidden vectors have ",
                 wanted, ", the router's ", got);
    MOEKIT_CHECK(router.noise == nn::RouterNoise::kNone,
                 "model.router.noise: the attentive router adds none; got \"",
                 enum_name(router.noise), "\"");
  }
  if (router.kind == RouterKind::kOracle) {
    MOEKIT_CHECK(static_cast<int64_t>(router.groups.size()) == config.num_experts,
                 "model.router.groups: wants one group of labels an expert, ", config.num_experts,
                 "; got ", router.groups.size());
    std::vector<int> seen(static_cast<size_t>(input.num_classes), 0);
    for (const auto& group : router.groups) {
      for (const int64_t label : group) {
        MOEKIT_CHECK(label >= 0 && label < input.num_classes, "model.router.groups: label ", label,
                     "; the data set has ", input.num_classes, " classes");
        MOEKIT_CHECK(seen[static_cast<size_t>(label)]++ == 0, "model.router.groups: label ", label,
                     " is in two groups");
      }
    }
    for (size_t label = 0; label < seen.size(); ++label) {
      MOEKIT_CHECK(seen[label] == 1, "model.router.groups: label ", label, " is in no group");
    }
  } else {
    MOEKIT_CHECK(router.groups.empty(), "model.router.groups: only for kind = \"oracle\"");
  }
}

}  // namespace

void validate(const ModelConfig& config, const InputShape& input) {
  MOEKIT_CHECK(config.num_experts >= 1, "model.num_experts must be at least 1; got ",
               config.num_experts);
  MOEKIT_CHECK(config.capacity_factor >= 0, "model.capacity_factor must be at least 0; got ",
               config.capacity_factor);
  MOEKIT_CHECK(config.num_shared_experts >= 0, "model.num_shared_experts must be at least 0; got ",
               config.num_shared_experts);
  MOEKIT_CHECK(config.expert.intermediate_size >= 1,
               "model.expert.intermediate_size must be at least 1; got ",
               config.expert.intermediate_size);
  if (config.kind == ModelKind::kSparse) {
    MOEKIT_CHECK(config.hidden_size >= 1, "model.hidden_size must be at least 1; got ",
                 config.hidden_size);
    MOEKIT_CHECK(
        config.expert.kind == ExpertKind::kMlp || config.expert.kind == ExpertKind::kLinear,
        "model.expert.kind: the sparse model takes mlp or linear; got \"",
        enum_name(config.expert.kind), "\"");
  } else if (config.expert.kind == ExpertKind::kConv) {
    check_net(config.expert.net, input, "model.expert.net");
  }
  MOEKIT_CHECK(config.expert.num_filters >= 1 && config.expert.init_scale > 0,
               "model.expert: num_filters must be at least 1 and init_scale positive; got ",
               config.expert.num_filters, " and ", config.expert.init_scale);
  MOEKIT_CHECK(config.expert.kind != ExpertKind::kPatch || input.channels == 1,
               "model.expert.kind = \"patch\" takes one-channel samples, each row a patch; got ",
               input.channels, " channels");
  MOEKIT_CHECK(config.expert.kind != ExpertKind::kPatch || !nn::is_gated(config.expert.activation),
               "model.expert.activation: \"", enum_name(config.expert.activation),
               "\" is a gated one, which patch experts do not take");
  MOEKIT_CHECK(
      config.output_loss == OutputLoss::kCrossEntropy || config.kind == ModelKind::kSparseMixture,
      "model.output_loss belongs to kind = \"sparse_mixture\"");
  MOEKIT_CHECK(config.kind == ModelKind::kSparse || config.num_shared_experts == 0,
               "model.num_shared_experts belongs to kind = \"sparse\"");
  MOEKIT_CHECK(config.kind == ModelKind::kSparse || config.kind == ModelKind::kSparseMixture ||
                   config.capacity_factor == 0,
               "model.capacity_factor belongs to kinds \"sparse\" and \"sparse_mixture\"");
  if (config.kind != ModelKind::kSingle) check_router(config, input);
}

}  // namespace moekit::models
