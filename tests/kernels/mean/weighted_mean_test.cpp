#include "moekit/kernels/mean/weighted_mean.h"

#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <limits>
#include <random>
#include <vector>

namespace moekit::kernels {
namespace {

// Sizes around the tile of 1,024, and such that are no multiple of any vector.
constexpr std::int64_t kSizes[] = {0, 1, 7, 1023, 1024, 1025, 3001};

std::vector<std::vector<float>> draw(std::int64_t count, std::int64_t size) {
  std::mt19937 random(5);
  std::normal_distribution<float> normal;
  std::vector<std::vector<float>> out(static_cast<size_t>(count),
                                      std::vector<float>(static_cast<size_t>(size)));
  for (auto& row : out) {
    for (auto& x : row) x = normal(random);
  }
  return out;
}

TEST(WeightedMean, IsThatOfPlainLoopsOnEveryInstructionSet) {
  // More than one pass of eight streams, and some left over.
  const std::vector<double> shares{0.01, 0.02, 0.03, 0.04, 0.05, 0.06, 0.07, 0.08, 0.09, 0.25, 0.3};
  for (const auto isa : supported_isas()) {
    for (const auto size : kSizes) {
      const auto rows = draw(11, size);
      std::vector<const float*> inputs;
      for (const auto& row : rows) inputs.push_back(row.data());
      std::vector<float> out(static_cast<size_t>(size) + 1, 99);
      weighted_mean_kernels(isa).of_float(inputs.data(), shares.data(), 11, size, out.data());
      for (size_t i = 0; i < static_cast<size_t>(size); ++i) {
        double sum = 0;
        for (size_t e = 0; e < rows.size(); ++e) sum = std::fma(rows[e][i], shares[e], sum);
        ASSERT_EQ(out[i], static_cast<float>(sum)) << isa_name(isa) << " " << size << " " << i;
      }
      EXPECT_EQ(out.back(), 99) << "wrote beyond the end";
    }
  }
}

TEST(WeightedMean, OfEqualInputsIsTheInput) {
  const auto rows = draw(1, 2000);
  const std::vector<const float*> inputs(3, rows[0].data());
  const std::vector<double> shares{0.3, 0.1, 0.6};
  std::vector<float> out(2000);
  weighted_mean(inputs.data(), shares.data(), 3, 2000, out.data());
  EXPECT_EQ(out, rows[0]);
}

TEST(WeightedMean, KeepsSignsOfZero) {
  const std::vector<float> zeros{0.0F, -0.0F};
  const float* inputs[] = {zeros.data(), zeros.data()};
  const double shares[] = {0.5, 0.5};
  std::vector<float> out(2);
  weighted_mean(inputs, shares, 2, 2, out.data());
  EXPECT_FALSE(std::signbit(out[0]));
  EXPECT_TRUE(std::signbit(out[1]));
}

TEST(WeightedMean, OfBfloat16RoundsToEven) {
  const auto bits = [](float x) {
    return Bf16Bits{static_cast<std::uint16_t>(std::bit_cast<std::uint32_t>(x) >> 16)};
  };
  // 1 and its neighbour 1 + 2^-7: the middle is a tie and goes to the even 1; from the neighbour to
  // 1 + 2^-6 it goes up to the even one.
  const std::vector<Bf16Bits> a{bits(1), bits(1.0078125F), bits(-3)};
  const std::vector<Bf16Bits> b{bits(1.0078125F), bits(1.015625F),
                                bits(std::numeric_limits<float>::infinity())};
  const Bf16Bits* inputs[] = {a.data(), b.data()};
  const double shares[] = {0.5, 0.5};
  for (const auto isa : supported_isas()) {
    std::vector<Bf16Bits> out(3);
    weighted_mean_kernels(isa).of_bf16(inputs, shares, 2, 3, out.data());
    EXPECT_EQ(out[0].bits, bits(1).bits);
    EXPECT_EQ(out[1].bits, bits(1.015625F).bits);
    EXPECT_EQ(out[2].bits, bits(std::numeric_limits<float>::infinity()).bits);
    const std::vector<Bf16Bits> nan{{0x7fc1}, {0xffc1}, {0x7f81}};
    const Bf16Bits* with_nan[] = {a.data(), nan.data()};
    weighted_mean_kernels(isa).of_bf16(with_nan, shares, 2, 3, out.data());
    for (const auto& x : out) {
      EXPECT_TRUE(std::isnan(std::bit_cast<float>(static_cast<std::uint32_t>(x.bits) << 16)));
    }
  }
}

}  // namespace
}  // namespace moekit::kernels
