#include "moekit/tensor/tensor_json.h"

#include "moekit/core/error.h"

namespace moekit::tensor {
namespace {

template <typename Value>
Json list_of(const torch::Tensor& values) {
  const torch::Tensor plain =
      values.detach().to(c10::CppTypeToScalarType<Value>::value).contiguous();
  const auto* begin = plain.data_ptr<Value>();
  return std::vector<Value>(begin, begin + plain.numel());
}

}  // namespace

Json to_json_values(const torch::Tensor& values) {
  MOEKIT_CHECK(values.dim() == 1, "to_json_values: wanted a tensor [N]; got ", values.sizes());
  return c10::isIntegralType(values.scalar_type(), /*includeBool=*/true) ? list_of<int64_t>(values)
                                                                         : list_of<double>(values);
}

Json to_json_rows(const torch::Tensor& table) {
  MOEKIT_CHECK(table.dim() == 2, "to_json_rows: wanted a table [R, C]; got ", table.sizes());
  Json rows = Json::array();
  for (int64_t r = 0; r < table.size(0); ++r) rows.push_back(to_json_values(table[r]));
  return rows;
}

}  // namespace moekit::tensor
