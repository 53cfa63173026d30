#pragma once

#include <torch/types.h>

#include <cstdint>
#include <optional>
#include <ostream>
#include <string>
#include <string_view>

namespace moekit::checkpoint {

/// The element types of safetensors files. libtorch 1.13 has no tensors of U16, U32, U64 and the
/// two F8: their elements travel as codes, in an integer tensor of the same element size.
enum class Dtype {
  kBool,
  kU8,
  kI8,
  kF8E4M3,  ///< the "fn" form: bias 7, subnormals, no infinity, S.1111.111 is NaN, largest 448
  kF8E5M2,  ///< bias 15, with subnormals, infinity and NaN as in IEEE 754
  kI16,
  kU16,
  kF16,
  kBF16,
  kI32,
  kU32,
  kF32,
  kF64,
  kI64,
  kU64,
};

/// "F8_E4M3": as it stands in a file.
std::string_view dtype_name(Dtype dtype);
std::ostream& operator<<(std::ostream& out, Dtype dtype);

/// Bytes of one element.
uint64_t dtype_bytes(Dtype dtype);

/// None when the format has no dtype of this name.
std::optional<Dtype> parse_dtype(std::string_view name);

/// Whether libtorch has tensors of it.
bool is_torch_dtype(Dtype dtype);

/// The libtorch type, or where there is none the integer type whose bits are the codes: U16 in
/// int16, U32 in int32, U64 in int64, both F8 in uint8.
torch::ScalarType code_type(Dtype dtype);

/// The dtype a libtorch tensor is stored as; none for complex, quantized and other types.
std::optional<Dtype> dtype_of(torch::ScalarType type);

/// The elements as numbers. libtorch's own dtypes convert as `Tensor::to` does. The others convert
/// exactly or not at all: U16 to int32, int64 or float32, U32 and U64 to int64, F8 to float32,
/// bfloat16 or float16.
/// @param codes  of type `code_type(dtype)`
/// @param where  stands before the message: file and tensor
/// @throws FormatError for another type `as`, or a U64 that int64 does not hold, with its position
///         in row-major order.
torch::Tensor decode(const torch::Tensor& codes, Dtype dtype, torch::ScalarType as,
                     const std::string& where);

}  // namespace moekit::checkpoint
