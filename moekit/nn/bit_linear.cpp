#include "moekit/nn/bit_linear.h"

#include "moekit/core/error.h"
#include "moekit/kernels/ffn/weight_format.h"
#include "moekit/nn/grouped_linear.h"
#include "moekit/nn/precision.h"

namespace moekit::nn {
namespace {

/// Exactly `value`, with a gradient as if it were x.
torch::Tensor straight_through(const torch::Tensor& value, const torch::Tensor& x) {
  // x - x is 0 to the bit, where value - x + x would be rounded.
  return value.detach() + (x - x.detach());
}

/// Of each matrix as the kernels compute it, so that they pack the same codes. [..., 1, 1]
torch::Tensor ternary_scales(const torch::Tensor& weight) {
  const auto matrices = weight.detach().to(torch::kFloat32).contiguous();
  const int64_t size = weight.size(-1) * weight.size(-2);
  auto sizes = weight.sizes().vec();
  sizes[sizes.size() - 1] = sizes[sizes.size() - 2] = 1;
  auto scales = torch::empty(sizes, torch::kFloat32);
  for (int64_t i = 0; i < scales.numel(); ++i) {
    scales.data_ptr<float>()[i] =
        kernels::ternary_scale(matrices.data_ptr<float>() + i * size, size);
  }
  return scales.to(weight.scalar_type());
}

/// 127 over each row's largest |value|, [..., 1]; 0 for rows so small that it overflows.
torch::Tensor row_factor(const torch::Tensor& largest) {
  return torch::where(largest > 1e-35, 127 / largest, torch::zeros_like(largest));
}

/// Rows of a product by row and expert scales. @param of_expert [E, 1, 1]
torch::Tensor scale_rows(const torch::Tensor& product, const torch::Tensor& of_row,
                         const torch::Tensor& of_expert, const torch::Tensor& expert) {
  return product * (of_row * of_expert.flatten().index_select(0, expert).unsqueeze(1));
}

}  // namespace

Codes weight_codes(const torch::Tensor& weight, WeightLevels levels) {
  MOEKIT_CHECK(weight.dim() >= 2 && weight.size(-1) >= 1 && weight.size(-2) >= 1,
               "weight_codes: wants matrices [..., O, D]; got ", weight.sizes());
  MOEKIT_CHECK(levels != WeightLevels::kFloat, "weight_codes: float weights have no codes");
  const auto w = weight.detach();
  const auto scale = ternary_scales(weight);
  if (levels == WeightLevels::kTernary) {
    const auto ratio = w / scale;
    return {straight_through(ratio.round().clamp(-1, 1), weight / scale), scale};
  }
  const auto above = w > w.mean({-2, -1}, /*keepdim=*/true);
  return {straight_through(above.to(w.scalar_type()) * 2 - 1, weight / scale), scale};
}

Codes row_codes(const torch::Tensor& x) {
  const auto rows = x.detach();
  const auto largest = rows.abs().amax(-1, /*keepdim=*/true);
  const auto factor = row_factor(largest);
  return {straight_through((rows * factor).round(), x * factor), largest / 127};
}

Codes normalized_row_codes(const torch::Tensor& x) {
  const auto rows = x.detach();
  const auto codes = row_codes(rows);
  const auto wide = at_least_float(x);
  const auto size = torch::rsqrt(wide.square().mean(-1, /*keepdim=*/true) + kBitNormEps);
  const auto normalized = (wide * size).to(x.scalar_type());
  const auto scale = codes.scale * size.detach().to(x.scalar_type());
  const auto factor = torch::where(scale > 1e-35, 1 / scale, torch::zeros_like(scale));
  return {straight_through(codes.values, normalized * factor), scale};
}

BitFfnOutput bit_ffn(const torch::Tensor& rows, const FfnParameters& p, Activation activation,
                     WeightLevels levels, const std::vector<int64_t>& offsets) {
  const auto expert = expert_of_rows(offsets);
  const auto map = [&](const Codes& x, const torch::Tensor& weight, const torch::Tensor& bias) {
    const auto w = weight_codes(weight, levels);
    const auto y =
        scale_rows(grouped_linear(x.values, w.values, {}, offsets), x.scale, w.scale, expert);
    return bias.defined() ? y + bias.index_select(0, expert) : y;
  };
  const auto x = row_codes(rows);
  const auto up = map(x, p.up, p.up_bias);
  const auto hidden = p.gate.defined() ? activate(map(x, p.gate, p.gate_bias), activation) * up
                                       : activate(up, activation);
  return {map(normalized_row_codes(hidden), p.down, p.down_bias), up};
}

BitLinearImpl::BitLinearImpl(BitLinearOptions options_) : options(std::move(options_)) {
  MOEKIT_CHECK(options.in_features() >= 1 && options.out_features() >= 1,
               "BitLinear: sizes must be at least 1; got ", options.in_features(), " and ",
               options.out_features());
  reset();
}

void BitLinearImpl::reset() {
  weight =
      register_parameter("weight", torch::zeros({options.out_features(), options.in_features()}));
}

torch::Tensor BitLinearImpl::forward(const torch::Tensor& x) {
  if (options.levels() == WeightLevels::kFloat) return x.matmul(weight.t());
  const auto codes = options.norm() ? normalized_row_codes(x) : row_codes(x);
  const auto w = weight_codes(weight, options.levels());
  return codes.values.matmul(w.values.t()) * (codes.scale * w.scale.view({1}));
}

}  // namespace moekit::nn
