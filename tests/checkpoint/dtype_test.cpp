#include "moekit/checkpoint/dtype.h"

#include <cmath>

#include "tests/checkpoint/file_test.h"

namespace moekit::checkpoint {
namespace {

torch::Tensor all_codes() { return torch::arange(256).to(torch::kUInt8); }

torch::Tensor f8(const torch::Tensor& codes, Dtype dtype, torch::ScalarType as) {
  return decode(codes, dtype, as, "test");
}

/// OCP 8-bit floating point, E4M3: S.EEEE.MMM.
double e4m3(int code) {
  const double sign = code & 0x80 ? -1 : 1;
  const int exponent = code >> 3 & 15;
  const int mantissa = code & 7;
  if (exponent == 15 && mantissa == 7) return std::nan("");
  if (exponent == 0) return sign * std::pow(2.0, -6) * (mantissa / 8.0);
  return sign * std::pow(2.0, exponent - 7) * (1 + mantissa / 8.0);
}

/// E5M2 is the upper half of an IEEE half.
double e5m2(int code) {
  int16_t bits = static_cast<int16_t>(code << 8);
  return torch::from_blob(&bits, {1}, torch::kHalf).item<double>();
}

template <typename Formula>
void expect_codes(Dtype dtype, torch::ScalarType as, Formula formula) {
  const auto values = f8(all_codes(), dtype, as);
  ASSERT_EQ(values.scalar_type(), as);
  const auto wide = values.to(torch::kDouble);  // exact from all three
  for (int code = 0; code < 256; ++code) {
    const auto value = wide[code].item<double>();
    const double expected = formula(code);
    if (std::isnan(expected)) {
      EXPECT_TRUE(std::isnan(value)) << dtype << " " << code;
    } else {
      EXPECT_EQ(value, expected) << dtype << " " << code;
      EXPECT_EQ(std::signbit(value), std::signbit(expected)) << dtype << " " << code;
    }
  }
}

TEST(DecodeF8, GivesEveryCodeItsValueInEveryType) {
  for (const auto as : {torch::kFloat32, torch::kBFloat16, torch::kFloat16}) {
    expect_codes(Dtype::kF8E4M3, as, &e4m3);
    expect_codes(Dtype::kF8E5M2, as, &e5m2);
  }
}

TEST(DecodeF8, KnowsTheValuesOfThePapersTable) {
  // Micikevicius et al. 2022, arXiv:2209.05433, table 1: largest, smallest normal and subnormal.
  const auto codes = [](std::initializer_list<int> list) {
    return torch::tensor(std::vector<int>(list)).to(torch::kUInt8);
  };
  EXPECT_TRUE(torch::equal(f8(codes({0x7E, 0x08, 0x01, 0xFE}), Dtype::kF8E4M3, torch::kFloat32),
                           torch::tensor({448.0F, std::exp2(-6.0F), std::exp2(-9.0F), -448.0F})));
  EXPECT_TRUE(torch::equal(
      f8(codes({0x7B, 0x04, 0x01, 0x7C, 0xFC}), Dtype::kF8E5M2, torch::kFloat32),
      torch::tensor({57344.0F, std::exp2(-14.0F), std::exp2(-16.0F), INFINITY, -INFINITY})));
}

TEST(DecodeF8, KeepsShapesAndReadsStridedCodes) {
  const auto codes =
      torch::arange(200'000).remainder(127).to(torch::kUInt8).reshape({400, 500}).t();
  const auto values = f8(codes, Dtype::kF8E4M3, torch::kFloat32);
  EXPECT_EQ(values.sizes(), codes.sizes());
  const auto single = f8(all_codes(), Dtype::kF8E4M3, torch::kFloat32);
  EXPECT_TRUE(torch::equal(values, single.index({codes.to(torch::kLong)})));
  EXPECT_EQ(f8(torch::zeros({0, 3}, torch::kUInt8), Dtype::kF8E5M2, torch::kFloat16).numel(), 0);
}

TEST(DecodeUnsigned, ReadsAllBitsAsTheNumber) {
  const auto u16 = torch::tensor({0, 1, 32767, -32768, -1}, torch::kShort);
  const auto numbers = torch::tensor({0, 1, 32767, 32768, 65535}, torch::kLong);
  for (const auto as : {torch::kInt, torch::kLong, torch::kFloat32}) {
    EXPECT_TRUE(torch::equal(decode(u16, Dtype::kU16, as, "t"), numbers.to(as)));
  }
  EXPECT_TRUE(torch::equal(
      decode(torch::tensor({0, -1, INT32_MIN}, torch::kInt), Dtype::kU32, torch::kLong, "t"),
      torch::tensor({int64_t{0}, int64_t{4294967295}, int64_t{2147483648}})));
  const auto u64 = torch::tensor({int64_t{0}, INT64_MAX});
  EXPECT_TRUE(torch::equal(decode(u64, Dtype::kU64, torch::kLong, "t"), u64));
}

TEST(DecodeUnsigned, RefusesANumberThatInt64DoesNotHoldWithItsPosition) {
  const auto codes = torch::tensor({{1, 2, 3}, {4, -1, -2}}, torch::kLong);
  expect_in(message_of<FormatError>([&] { decode(codes, Dtype::kU64, torch::kLong, "f: x"); }),
            {"f: x", "element 4", "18446744073709551615"});
}

TEST(Decode, RefusesTypesThatWouldRound) {
  const auto refused = [](Dtype dtype, torch::ScalarType as) {
    expect_in(message_of<FormatError>(
                  [&] { decode(torch::zeros({1}, code_type(dtype)), dtype, as, "f: x"); }),
              {"f: x", concat(dtype).c_str(), c10::toString(as)});
  };
  refused(Dtype::kU16, torch::kFloat16);
  refused(Dtype::kU16, torch::kShort);
  refused(Dtype::kU32, torch::kInt);
  refused(Dtype::kU32, torch::kFloat32);
  refused(Dtype::kU64, torch::kFloat64);
  refused(Dtype::kF8E4M3, torch::kInt);
  refused(Dtype::kF8E5M2, torch::kUInt8);
}

TEST(Dtypes, HaveTheSizesOfTheFormatAndFindTheirWayBack) {
  const std::pair<const char*, uint64_t> sizes[] = {
      {"BOOL", 1}, {"U8", 1},  {"I8", 1},  {"F8_E4M3", 1}, {"F8_E5M2", 1},
      {"I16", 2},  {"U16", 2}, {"F16", 2}, {"BF16", 2},    {"I32", 4},
      {"U32", 4},  {"F32", 4}, {"F64", 8}, {"I64", 8},     {"U64", 8}};
  for (const auto& [name, bytes] : sizes) {
    const auto dtype = parse_dtype(name).value();
    EXPECT_EQ(dtype_name(dtype), name);
    EXPECT_EQ(dtype_bytes(dtype), bytes) << name;
    EXPECT_EQ(c10::elementSize(code_type(dtype)), bytes) << name;
    if (is_torch_dtype(dtype)) {
      EXPECT_EQ(dtype_of(code_type(dtype)), dtype) << name;
    }
  }
  EXPECT_FALSE(parse_dtype("f32"));
  EXPECT_FALSE(dtype_of(torch::kComplexFloat));
}

}  // namespace
}  // namespace moekit::checkpoint
