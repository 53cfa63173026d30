#pragma once

#include <torch/nn/module.h>
#include <torch/nn/modules/container/any.h>

#include <string>

#include "moekit/core/enum_names.h"
#include "moekit/core/field_rule.h"
#include "moekit/nn/experts/conv_net.h"
#include "moekit/nn/initialization.h"
#include "moekit/nn/layer_site.h"

namespace moekit::nn {

/// What a router without trunk sees of an image.
enum class RouterInput {
  kFlat,      ///< all pixels
  kPatchSum,  ///< the sum of its patches
};

/// What stands between a layer's samples and a router's own weights, as a recipe says it.
struct TrunkOptions {
  RouterInput input = RouterInput::kFlat;
  int64_t patch_size = 0;
  NetOptions trunk;
  bool trunk_relu = true;

  template <typename Field>
  void visit(Field&& field) {
    field("input", input, "what a router without trunk sees of an image");
    field("patch_size", patch_size, "side of a patch; 0: each row is one", at_least(0));
    field("trunk", trunk, "network before the router's own layer; empty: none");
    field("trunk_relu", trunk_relu, "ReLU after the trunk");
  }
};

/// @throws ArgumentError naming the key below `where`.
void check_trunk(const TrunkOptions& options, const LayerSite& site, const std::string& where);

/// The trunk, and the size D of what it gives.
struct Trunk {
  torch::nn::AnyModule module;  ///< empty for vectors, which need none
  int64_t size = 0;
};
Trunk make_trunk(const TrunkOptions& options, const LayerSite& site);

/// A deep copy of `trunk` registered as child "trunk" of `owner`; an empty one stays empty.
torch::nn::AnyModule register_trunk(torch::nn::Module& owner, const torch::nn::AnyModule& trunk);

/// trunk(tokens), or the tokens themselves without a trunk.
torch::Tensor run_trunk(torch::nn::AnyModule& trunk, const torch::Tensor& tokens);

/// Draws the weights of an `Initializable` trunk anew; another trunk keeps the weights it came
/// with.
void reset_trunk(const torch::nn::AnyModule& trunk, const at::Generator& generator);

}  // namespace moekit::nn

template <>
struct moekit::EnumNames<moekit::nn::RouterInput> {
  static constexpr std::array<std::pair<nn::RouterInput, std::string_view>, 2> kTable{{
      {nn::RouterInput::kFlat, "flat"},
      {nn::RouterInput::kPatchSum, "patch_sum"},
  }};
};
