#pragma once

#include <torch/nn/cloneable.h>
#include <torch/nn/pimpl.h>

#include "moekit/core/enum_names.h"
#include "moekit/nn/activation.h"
#include "moekit/nn/fused_ffn.h"

/// Linear maps that are learned through the rounding they will run with: weights of two or three
/// levels with one scale a matrix, inputs of 8 bits with one scale a row. Floating-point weights
/// stay behind for the optimizer; backward passes take both roundings for the identity
/// (straight-through), so that gradients reach the weights, and no scale has one.
/// Sources: Wang et al. 2023 (BitNet), arXiv:2310.11453, eq. 1-3, 11; Ma et al. 2024 (b1.58),
/// arXiv:2402.17764, eq. 1-3. Inputs keep within -127..127, where the released code has -128 too.
namespace moekit::nn {

/// Levels of a map's weights in the forward pass.
enum class WeightLevels {
  kFloat,    ///< as they are
  kTernary,  ///< gamma {-1, 0, 1}: W / gamma rounded, gamma = mean |W|, at least 1e-5
  kBinary,   ///< beta {-1, 1}: the sign of W - mean W, -1 for 0; beta = mean |W|
};

/// Whole numbers, and what they are to be multiplied by. Products of codes are exact in float for
/// up to 2^24 / 127 = 132,104 inputs.
struct Codes {
  torch::Tensor values;  ///< gradient flows to what was rounded
  torch::Tensor scale;   ///< has none
};

/// Of matrices [..., O, D]: values [..., O, D], scale [..., 1, 1].
Codes weight_codes(const torch::Tensor& weight, WeightLevels levels);

/// Of rows [..., D], each by its largest |value| / 127: values [..., D], scale [..., 1].
Codes row_codes(const torch::Tensor& x);

/// What keeps a row's root mean square from being zero where a map normalises its inputs.
inline constexpr double kBitNormEps = 1e-5;

/// Of rows [..., D] divided by their root mean square, to which gradient flows. The same whole
/// numbers as row_codes() gives: rounding does not depend on a row's size.
Codes normalized_row_codes(const torch::Tensor& x);

/// What feed-forward experts of such maps give.
struct BitFfnOutput {
  torch::Tensor values;  ///< [R, O]
  torch::Tensor up;      ///< [R, F], before the activation
};

/// Feed-forward experts of such maps: inputs of the first maps are rounded as they come, hidden
/// values are normalised before the last. @param rows [R, D], grouped by expert as `offsets` says
BitFfnOutput bit_ffn(const torch::Tensor& rows, const FfnParameters& parameters,
                     Activation activation, WeightLevels levels,
                     const std::vector<int64_t>& offsets);

struct BitLinearOptions {
  BitLinearOptions(int64_t in_features, int64_t out_features)
      : in_features_(in_features), out_features_(out_features) {}
  TORCH_ARG(int64_t, in_features);
  TORCH_ARG(int64_t, out_features);
  TORCH_ARG(WeightLevels, levels) = WeightLevels::kTernary;
  /// Inputs are divided by their root mean square first; with kFloat they are not.
  TORCH_ARG(bool, norm) = true;
};

/// y = x W' without a bias. Its one parameter has a linear map's name and place.
class BitLinearImpl : public torch::nn::Cloneable<BitLinearImpl> {
 public:
  /// @throws ArgumentError unless both sizes are at least 1.
  explicit BitLinearImpl(BitLinearOptions options);
  void reset() override;
  /// @param x [..., D] @return [..., O]
  torch::Tensor forward(const torch::Tensor& x);

  BitLinearOptions options;
  torch::Tensor weight;  ///< [O, D]
};
TORCH_MODULE(BitLinear);

}  // namespace moekit::nn

template <>
struct moekit::EnumNames<moekit::nn::WeightLevels> {
  static constexpr std::array<std::pair<nn::WeightLevels, std::string_view>, 3> kTable{{
      {nn::WeightLevels::kFloat, "float"},
      {nn::WeightLevels::kTernary, "ternary"},
      {nn::WeightLevels::kBinary, "binary"},
  }};
};
