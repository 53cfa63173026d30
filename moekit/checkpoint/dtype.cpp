#include "moekit/checkpoint/dtype.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>

#include "moekit/core/error.h"

namespace moekit::checkpoint {
namespace {

using Decode = torch::Tensor (*)(const torch::Tensor& codes, torch::ScalarType as,
                                 const std::string& where);

struct DtypeRow {
  Dtype dtype;
  std::string_view name;
  uint64_t bytes;
  torch::ScalarType code_type;
  Decode decode;                              // null: libtorch has the type
  std::array<torch::ScalarType, 3> exact_as;  // what `decode` accepts
};

/// 256 values of a float with a sign bit, an exponent and a mantissa, without its NaN and infinity.
std::array<float, 256> finite_values(int mantissa_bits, int bias) {
  std::array<float, 256> values{};
  const int steps = 1 << mantissa_bits;
  for (int code = 0; code < 256; ++code) {
    const int mantissa = code % steps;
    const int exponent = (code & 0x7F) / steps;
    const int significand = exponent == 0 ? mantissa : steps + mantissa;
    const auto magnitude =
        static_cast<float>(std::ldexp(significand, std::max(exponent, 1) - bias - mantissa_bits));
    values[static_cast<size_t>(code)] = code < 128 ? magnitude : -magnitude;
  }
  return values;
}

std::array<float, 256> e4m3_values() {
  auto values = finite_values(3, 7);
  values[0x7F] = values[0xFF] = std::numeric_limits<float>::quiet_NaN();
  return values;
}

std::array<float, 256> e5m2_values() {
  auto values = finite_values(2, 15);
  for (const size_t sign : {0x00, 0x80}) {
    values[sign + 0x7C] = (sign == 0 ? 1.0F : -1.0F) * std::numeric_limits<float>::infinity();
    for (const size_t nan : {0x7D, 0x7E, 0x7F}) {
      values[sign + nan] = std::numeric_limits<float>::quiet_NaN();
    }
  }
  return values;
}

template <typename Word>
void look_up(const torch::Tensor& codes, const torch::Tensor& values, torch::Tensor& out) {
  const auto* from = codes.data_ptr<uint8_t>();
  const auto* table = static_cast<const Word*>(values.data_ptr());
  auto* to = static_cast<Word*>(out.data_ptr());
  for (int64_t i = 0; i < codes.numel(); ++i) to[i] = table[from[i]];
}

template <std::array<float, 256> (*values_of)()>
torch::Tensor decode_f8(const torch::Tensor& codes, torch::ScalarType as,
                        const std::string& /*where*/) {
  const auto values = values_of();
  const auto table =
      torch::tensor(at::ArrayRef<float>(values.data(), values.size()), torch::kFloat32).to(as);
  auto out = torch::empty(codes.sizes(), torch::TensorOptions().dtype(as));
  const auto plain = codes.contiguous();
  if (table.element_size() == 2) {
    look_up<uint16_t>(plain, table, out);
  } else {
    look_up<uint32_t>(plain, table, out);
  }
  return out;
}

/// The bits of a signed tensor read as unsigned, in a wider type.
template <int64_t mask>
torch::Tensor decode_unsigned(const torch::Tensor& codes, torch::ScalarType as,
                              const std::string& /*where*/) {
  const auto wide = as == torch::kLong ? torch::kLong : torch::kInt;
  return codes.to(wide).bitwise_and(mask).to(as);
}

torch::Tensor decode_u64(const torch::Tensor& codes, torch::ScalarType /*as*/,
                         const std::string& where) {
  const auto negative = codes.lt(0);
  if (negative.any().item<bool>()) {
    const auto position = negative.flatten().nonzero()[0].item<int64_t>();
    const auto value = static_cast<uint64_t>(codes.flatten()[position].item<int64_t>());
    throw FormatError(
        concat(where, ": element ", position, " is ", value, ", more than int64 holds"));
  }
  return codes;
}

constexpr auto kNoType = torch::ScalarType::Undefined;
constexpr std::array<torch::ScalarType, 3> kByTorch{kNoType, kNoType, kNoType};
constexpr std::array<torch::ScalarType, 3> kLongOnly{torch::kLong, kNoType, kNoType};
constexpr std::array<torch::ScalarType, 3> kFloats{torch::kFloat32, torch::kBFloat16,
                                                   torch::kFloat16};

constexpr DtypeRow kDtypes[] = {
    {Dtype::kBool, "BOOL", 1, torch::kBool, nullptr, kByTorch},
    {Dtype::kU8, "U8", 1, torch::kUInt8, nullptr, kByTorch},
    {Dtype::kI8, "I8", 1, torch::kInt8, nullptr, kByTorch},
    {Dtype::kF8E4M3, "F8_E4M3", 1, torch::kUInt8, &decode_f8<&e4m3_values>, kFloats},
    {Dtype::kF8E5M2, "F8_E5M2", 1, torch::kUInt8, &decode_f8<&e5m2_values>, kFloats},
    {Dtype::kI16, "I16", 2, torch::kInt16, nullptr, kByTorch},
    {Dtype::kU16,
     "U16",
     2,
     torch::kInt16,
     &decode_unsigned<0xFFFF>,
     {torch::kInt, torch::kLong, torch::kFloat32}},
    {Dtype::kF16, "F16", 2, torch::kFloat16, nullptr, kByTorch},
    {Dtype::kBF16, "BF16", 2, torch::kBFloat16, nullptr, kByTorch},
    {Dtype::kI32, "I32", 4, torch::kInt32, nullptr, kByTorch},
    {Dtype::kU32, "U32", 4, torch::kInt32, &decode_unsigned<0xFFFFFFFF>, kLongOnly},
    {Dtype::kF32, "F32", 4, torch::kFloat32, nullptr, kByTorch},
    {Dtype::kF64, "F64", 8, torch::kFloat64, nullptr, kByTorch},
    {Dtype::kI64, "I64", 8, torch::kInt64, nullptr, kByTorch},
    {Dtype::kU64, "U64", 8, torch::kInt64, &decode_u64, kLongOnly},
};

const DtypeRow& row(Dtype dtype) {
  for (const DtypeRow& candidate : kDtypes) {
    if (candidate.dtype == dtype) return candidate;
  }
  throw ArgumentError(concat("dtype ", static_cast<int>(dtype), " is none of safetensors"));
}

}  // namespace

std::string_view dtype_name(Dtype dtype) { return row(dtype).name; }

std::ostream& operator<<(std::ostream& out, Dtype dtype) { return out << dtype_name(dtype); }

uint64_t dtype_bytes(Dtype dtype) { return row(dtype).bytes; }

std::optional<Dtype> parse_dtype(std::string_view name) {
  for (const DtypeRow& candidate : kDtypes) {
    if (candidate.name == name) return candidate.dtype;
  }
  return std::nullopt;
}

bool is_torch_dtype(Dtype dtype) { return row(dtype).decode == nullptr; }

torch::ScalarType code_type(Dtype dtype) { return row(dtype).code_type; }

std::optional<Dtype> dtype_of(torch::ScalarType type) {
  for (const DtypeRow& candidate : kDtypes) {
    if (candidate.decode == nullptr && candidate.code_type == type) return candidate.dtype;
  }
  return std::nullopt;
}

torch::Tensor decode(const torch::Tensor& codes, Dtype dtype, torch::ScalarType as,
                     const std::string& where) {
  const DtypeRow& from = row(dtype);
  if (from.decode == nullptr) return codes.to(as);
  std::string accepted;
  for (const auto type : from.exact_as) {
    if (type == as) return from.decode(codes, as, where);
    if (type != kNoType) accepted += concat(accepted.empty() ? "" : ", ", type);
  }
  throw FormatError(concat(where, ": ", from.name, " is read as ", accepted, "; asked for ", as));
}

}  // namespace moekit::checkpoint
