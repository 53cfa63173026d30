#include "moekit/published/weight_reader.h"

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <torch/torch.h>

#include "moekit/core/error.h"

namespace moekit::published {

WeightReader::WeightReader(const Architecture& architecture,
                           const checkpoint::TensorSource& tensors)
    : architecture_(architecture),
      tensors_(tensors),
      layout_(find_layout(architecture, &tensors)) {}

/// Open Compute Project 2023, Microscaling formats: a byte holds two codes, the even element in the
/// lower half; a code is a sign and one of eight values; a block's scale is 2^(byte - 127).
torch::Tensor WeightReader::read_mxfp4(const std::string& name, const NamedShape& tensor) const {
  constexpr std::string_view kBlocks = "_blocks";
  MOEKIT_CHECK_FORMAT(
      name.size() > kBlocks.size() && name.substr(name.size() - kBlocks.size()) == kBlocks,
      tensors_.where(), ": tensor ", name, " has no scales beside it");
  const auto scales_name = name.substr(0, name.size() - kBlocks.size()) + "_scales";
  MOEKIT_CHECK_FORMAT(tensors_.contains(scales_name), tensors_.where(), ": tensor ", scales_name,
                      " is missing");
  const auto& scales_info = tensors_.info(scales_name);
  const std::vector<int64_t> wanted(tensor.shape.begin(), tensor.shape.end() - 1);
  MOEKIT_CHECK_FORMAT(scales_info.shape == wanted && scales_info.dtype == checkpoint::Dtype::kU8 &&
                          tensors_.info(name).dtype == checkpoint::Dtype::kU8,
                      tensors_.where(), ": tensors ", name, " and ", scales_name,
                      " are not bytes of one code's blocks and scales");
  const auto values = torch::tensor({0.0F, 0.5F, 1.0F, 1.5F, 2.0F, 3.0F, 4.0F, 6.0F, -0.0F, -0.5F,
                                     -1.0F, -1.5F, -2.0F, -3.0F, -4.0F, -6.0F});
  const auto codes = tensors_.read_codes(name);
  const auto low = codes.bitwise_and(15).to(torch::kLong);
  const auto high = codes.bitwise_right_shift(4).to(torch::kLong);
  const auto pairs = torch::stack({values.index({low}), values.index({high})}, -1).flatten(-2);
  const auto power = tensors_.read_codes(scales_name).to(torch::kFloat32) - 127;
  return (pairs * torch::exp2(power).unsqueeze(-1)).flatten(-2);
}

torch::Tensor WeightReader::read(const std::string& prefix, const NamedShape& tensor) const {
  const auto name = layout_.name(prefix + tensor.name);
  MOEKIT_CHECK_FORMAT(tensors_.contains(name), tensors_.where(), ": tensor ", name,
                      " is missing, which ", architecture_.where, " asks for");
  const auto& info = tensors_.info(name);
  MOEKIT_CHECK_FORMAT(info.shape == tensor.shape, tensors_.where(), ": tensor ", name, " is ",
                      fmt::format("[{}], not [{}] as {} says", fmt::join(info.shape, ", "),
                                  fmt::join(tensor.shape, ", "), architecture_.where));
  const bool packed = architecture_.quantization == "mxfp4" && tensor.shape.size() == 4;
  auto values = packed ? read_mxfp4(name, tensor) : tensors_.read(name, torch::kFloat32);
  const auto scales = name + "_scale_inv";
  if (info.dtype == checkpoint::Dtype::kF8E4M3) {
    MOEKIT_CHECK_FORMAT(architecture_.quantization == "fp8" && tensors_.contains(scales),
                        tensors_.where(), ": tensor ", name, " is F8_E4M3 without ", scales,
                        " beside it, or without a quantization_config of fp8 in ",
                        architecture_.where);
    const auto rows = architecture_.scale_rows;
    const auto columns = architecture_.scale_columns;
    const auto pieces = [](int64_t size, int64_t each) { return (size + each - 1) / each; };
    const std::vector<int64_t> wanted{pieces(tensor.shape.at(0), rows),
                                      pieces(tensor.shape.at(1), columns)};
    MOEKIT_CHECK_FORMAT(
        tensors_.info(scales).shape == wanted, tensors_.where(), ": tensor ", scales,
        fmt::format(" is [{}], not [{}]", fmt::join(tensors_.info(scales).shape, ", "),
                    fmt::join(wanted, ", ")));
    const auto each = tensors_.read(scales, torch::kFloat32)
                          .repeat_interleave(rows, 0)
                          .narrow(0, 0, tensor.shape[0])
                          .repeat_interleave(columns, 1)
                          .narrow(1, 0, tensor.shape[1]);
    values = values * each;
  }
  MOEKIT_CHECK_FORMAT(values.isfinite().all().item<bool>(), tensors_.where(), ": tensor ", name,
                      " has values that are NaN or infinite");
  return values;
}

}  // namespace moekit::published
