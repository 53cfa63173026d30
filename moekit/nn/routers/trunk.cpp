#include "moekit/nn/routers/trunk.h"

#include "moekit/core/error.h"
#include "moekit/nn/precision.h"
#include "moekit/nn/routers/patch_sum.h"

namespace moekit::nn {
namespace {

/// Flattens images in front of a router that takes vectors.
struct FlattenImpl : torch::nn::Cloneable<FlattenImpl> {
  void reset() override {}
  torch::Tensor forward(const torch::Tensor& images) { return images.flatten(1); }
};
TORCH_MODULE(Flatten);

bool is_empty(const NetOptions& net) { return net.conv.empty() && net.hidden.empty(); }

}  // namespace

void check_trunk(const TrunkOptions& options, const LayerSite& site, const std::string& where) {
  const bool sums = options.input == RouterInput::kPatchSum;
  if (!site.is_image()) {
    MOEKIT_CHECK(!sums, where, ".input: this layer routes vectors, not images");
    MOEKIT_CHECK(is_empty(options.trunk), where,
                 ".trunk: this layer routes vectors, without a trunk");
    MOEKIT_CHECK(options.patch_size == 0 && options.trunk_relu, where,
                 ".patch_size and trunk_relu have no effect on a layer that routes vectors");
    return;
  }
  MOEKIT_CHECK(!sums || is_empty(options.trunk), where, ".input = \"patch_sum\" wants no ", where,
               ".trunk");
  const int64_t side = options.patch_size;
  MOEKIT_CHECK(side >= 0 && (side == 0 || (site.input[1] % side == 0 && site.input[2] % side == 0)),
               where, ".patch_size must divide ", site.input[1], "x", site.input[2], "; got ",
               side);
  MOEKIT_CHECK(options.trunk_relu || !is_empty(options.trunk), where,
               ".trunk_relu has no effect without ", where, ".trunk");
  if (!is_empty(options.trunk)) check_net(options.trunk, site.input, where + ".trunk");
}

Trunk make_trunk(const TrunkOptions& options, const LayerSite& site) {
  if (!site.is_image()) return {{}, site.size()};
  if (!is_empty(options.trunk)) {
    return {torch::nn::AnyModule(
                ConvTrunk(conv_net_options(options.trunk, site.input, 1), options.trunk_relu)),
            options.trunk.hidden.back()};
  }
  if (options.input == RouterInput::kPatchSum) {
    const int64_t side = options.patch_size;
    return {torch::nn::AnyModule(PatchSum(side)),
            site.input[0] * (side > 0 ? side * side : site.input[2])};
  }
  return {torch::nn::AnyModule(Flatten()), site.size()};
}
torch::nn::AnyModule register_trunk(torch::nn::Module& owner, const torch::nn::AnyModule& trunk) {
  if (trunk.is_empty()) return {};
  auto copy = trunk.clone();
  owner.register_module("trunk", copy.ptr());
  return copy;
}

torch::Tensor run_trunk(torch::nn::AnyModule& trunk, const torch::Tensor& tokens) {
  if (trunk.is_empty()) return tokens;
  // What has no parameters (sums of patches) is the router's own arithmetic.
  const auto module = trunk.ptr();
  return trunk.forward(module->parameters().empty() ? at_least_float(tokens)
                                                    : as_parameters(tokens, *module));
}

void reset_trunk(const torch::nn::AnyModule& trunk, const at::Generator& generator) {
  if (trunk.is_empty()) return;
  if (auto* module = dynamic_cast<Initializable*>(trunk.ptr().get())) {
    module->reset_parameters(generator);
  }
}

}  // namespace moekit::nn
