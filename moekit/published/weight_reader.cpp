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

torch::Tensor WeightReader::read(const std::string& prefix, const NamedShape& tensor) const {
  const auto name = layout_.name(prefix + tensor.name);
  MOEKIT_CHECK_FORMAT(tensors_.contains(name), tensors_.where(), ": tensor ", name,
                      " is missing, which ", architecture_.where, " asks for");
  const auto& info = tensors_.info(name);
  MOEKIT_CHECK_FORMAT(info.shape == tensor.shape, tensors_.where(), ": tensor ", name, " is ",
                      fmt::format("[{}], not [{}] as {} says", fmt::join(info.shape, ", "),
                                  fmt::join(tensor.shape, ", "), architecture_.where));
  auto values = tensors_.read(name, torch::kFloat32);
  const auto scales = name + "_scale_inv";
  if (architecture_.quantization == "fp8" && tensors_.contains(scales)) {
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
