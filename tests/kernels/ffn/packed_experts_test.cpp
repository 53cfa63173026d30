#include "moekit/kernels/ffn/packed_experts.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "moekit/core/error.h"
#include "tests/kernels/ffn/expert_ffn_support.h"

namespace moekit::kernels {
namespace {

struct Unpacked {
  Unpacked(const FfnShape& s)
      : gate(static_cast<std::size_t>(s.intermediate_size * s.hidden_size)),
        up(gate.size()),
        down(static_cast<std::size_t>(s.output_size * s.intermediate_size)),
        gate_bias(static_cast<std::size_t>(s.intermediate_size)),
        up_bias(gate_bias.size()),
        down_bias(static_cast<std::size_t>(s.output_size)) {}
  MutableExpertMatrices pointers(const FfnShape& s) {
    const bool gated = is_gated(s.activation);
    return {gated ? gate.data() : nullptr,
            up.data(),
            down.data(),
            gated && s.bias ? gate_bias.data() : nullptr,
            s.bias ? up_bias.data() : nullptr,
            s.bias ? down_bias.data() : nullptr};
  }
  std::vector<float> gate, up, down, gate_bias, up_bias, down_bias;
};

/// Input sizes around what the formats pad to; an odd one for each matrix.
std::vector<FfnShape> shapes() {
  using A = Activation;
  return {{1, 1, 1, 1, A::kRelu, false},       {2, 128, 256, 128, A::kSwiglu, true},
          {2, 129, 33, 65, A::kGeglu, true},   {3, 384, 31, 64, A::kGelu, false},
          {2, 17, 100, 130, A::kReglu, false}, {1, 300, 127, 5, A::kSquaredRelu, true}};
}

/// The largest error one weight may have, as FormatInfo's error_bound says.
double bound_of(const FormatInfo& format, const float* row, std::int64_t inputs, std::int64_t k,
                double matrix_mean) {
  const auto largest = [&](std::int64_t begin, std::int64_t end) {
    double most = 0;
    for (std::int64_t i = begin; i < end; ++i) {
      most = std::max(most, std::fabs(static_cast<double>(row[i])));
    }
    return most;
  };
  const double w = std::fabs(static_cast<double>(row[k]));
  switch (format.format) {
    case WeightFormat::kF32:
      return 0;
    case WeightFormat::kBf16:
      return w / 256;
    case WeightFormat::kInt8:
      return largest(0, inputs) / 254;
    case WeightFormat::kTernary:
      return std::max(matrix_mean / 2, w - matrix_mean);
    default: {
      const std::int64_t begin = k / format.group * format.group;
      return largest(begin, std::min(inputs, begin + format.group)) / 7 * (1 + 1.0 / 128) / 2;
    }
  }
}

double mean_size(const std::vector<float>& values) {
  double sum = 0;
  for (const float v : values) sum += std::fabs(static_cast<double>(v));
  return sum / static_cast<double>(values.size());
}

TEST(PackedExperts, UnpackingStaysWithinTheFormatsErrorBound) {
  for (const auto& shape : shapes()) {
    std::mt19937 generator(19);
    Parameters parameters(shape, generator);
    for (const auto& format : weight_formats()) {
      const auto packed = pack_all(shape, format.format, parameters);
      for (std::int64_t e = 0; e < shape.num_experts; ++e) {
        Unpacked got(shape);
        packed.unpack(e, got.pointers(shape));
        const auto want = parameters.of_expert(shape, e);
        const auto check = [&](const char* name, const std::vector<float>& values,
                               const float* matrix, std::int64_t inputs) {
          const double mean =
              mean_size({matrix, matrix + static_cast<std::ptrdiff_t>(values.size())});
          for (std::size_t i = 0; i < values.size(); ++i) {
            const auto at = static_cast<std::int64_t>(i);
            const double bound =
                bound_of(format, matrix + at / inputs * inputs, inputs, at % inputs, mean);
            ASSERT_LE(std::fabs(static_cast<double>(values[i]) - static_cast<double>(matrix[i])),
                      bound * 1.00001 + 1e-12)
                << format.name << " " << name << " " << i;
          }
        };
        if (is_gated(shape.activation)) check("gate", got.gate, want.gate, shape.hidden_size);
        check("up", got.up, want.up, shape.hidden_size);
        check("down", got.down, want.down, shape.intermediate_size);
        if (!shape.bias) continue;
        EXPECT_TRUE(std::equal(got.up_bias.begin(), got.up_bias.end(), want.up_bias));
        EXPECT_TRUE(std::equal(got.down_bias.begin(), got.down_bias.end(), want.down_bias));
        if (is_gated(shape.activation)) {
          EXPECT_TRUE(std::equal(got.gate_bias.begin(), got.gate_bias.end(), want.gate_bias));
        }
      }
    }
  }
}

TEST(PackedExperts, PackingWhatWasUnpackedChangesNothing) {
  // Not for ternary: the mean of |w| of codes with zeros among them is another one.
  const FfnShape shape{1, 160, 64, 96, Activation::kSwiglu, false};
  std::mt19937 generator(23);
  Parameters parameters(shape, generator);
  for (const auto& format : weight_formats()) {
    if (format.format == WeightFormat::kTernary) continue;
    const auto packed = pack_all(shape, format.format, parameters);
    Unpacked once(shape), twice(shape);
    packed.unpack(0, once.pointers(shape));
    PackedExperts again(shape, format.format);
    again.pack(0, {once.gate.data(), once.up.data(), once.down.data()});
    again.unpack(0, twice.pointers(shape));
    // int4's scale is the largest |w| / 7 rounded up, and 7 codes of a scale may round to 7 again.
    EXPECT_LE(relative_error(twice.up, once.up), format.group > 0 ? 0.01 : 1e-6) << format.name;
    EXPECT_LE(relative_error(twice.down, once.down), format.group > 0 ? 0.01 : 1e-6);
  }
}

TEST(PackedExperts, TernaryCodesAreThoseOfTheRoundedRatio) {
  // gamma = mean |w| = (3 + 1 + 0.4 + 0.2) / 4 = 1.15; codes round(w / gamma), clipped: 1, -1, 0,
  // 0.
  const FfnShape shape{1, 4, 1, 1, Activation::kRelu, false};
  const std::vector<float> up{3, -1, 0.4F, 0.2F}, down{0};
  PackedExperts packed(shape, WeightFormat::kTernary);
  packed.pack(0, {nullptr, up.data(), down.data()});
  Unpacked got(shape);
  packed.unpack(0, got.pointers(shape));
  const std::vector<float> want{1.15F, -1.15F, 0, 0};
  for (std::size_t i = 0; i < want.size(); ++i) EXPECT_NEAR(got.up[i], want[i], 1e-6);
  EXPECT_EQ(got.down[0], 0);  // a matrix of zeros: scale 1e-5, codes 0
}

TEST(PackedExperts, TheTernaryScaleIsTheMeanSize) {
  const std::vector<float> odd{1, -2, 3, -4, 5, -6, 7, -8, 9, -10, 11};  // no block's multiple
  for (std::int64_t count = 1; count <= 11; ++count) {
    EXPECT_FLOAT_EQ(ternary_scale(odd.data(), count), static_cast<float>(count + 1) / 2) << count;
  }
  const std::vector<float> zeros(20, 0.0F);
  EXPECT_EQ(ternary_scale(zeros.data(), 20), 1e-5F);
}

TEST(PackedExperts, TakesTheBytesItSays) {
  // D = F = O = 1024: nothing is padded, so an expert takes its weights' bits and its scales.
  const FfnShape shape{1, 1024, 1024, 1024, Activation::kSwiglu, false};
  const double weights = 3.0 * 1024 * 1024;
  for (const auto& format : weight_formats()) {
    const PackedExperts packed(shape, format.format);
    const double bits = static_cast<double>(packed.expert_bytes()) * 8 / weights;
    // int8 and ternary keep a float scale a column: 32 bits for 1024 weights.
    const double scales =
        format.format == WeightFormat::kInt8 || format.format == WeightFormat::kTernary
            ? 32.0 / 1024
            : 0;
    EXPECT_NEAR(bits, format.bits_per_weight + scales, 1e-9) << format.name;
  }
}

/// Root mean square error of a layer's output against float64, relative to its size.
double output_error(WeightFormat format, float outlier) {
  const FfnShape shape{4, 256, 128, 256, Activation::kSwiglu, false};
  std::mt19937 generator(29);
  Parameters parameters(shape, generator);
  const auto plan = random_plan(generator, 64, 4, 2, 4);
  auto tokens = random_values(generator, 64 * 256);
  for (std::size_t n = 0; n < 64; ++n) tokens[n * 256 + 3] *= outlier;
  const auto exact = pack_all(shape, WeightFormat::kF32, parameters);
  const auto packed = pack_all(shape, format, parameters);
  Runner runner;
  std::vector<float> want(tokens.size()), got(tokens.size());
  expert_ffn_forward({{&exact, &plan}}, tokens.data(), want.data(), runner.on(Isa::kReference));
  expert_ffn_forward({{&packed, &plan}}, tokens.data(), got.data(), runner.on(default_isa()));
  double error = 0, size = 0;
  for (std::size_t i = 0; i < want.size(); ++i) {
    const double difference = static_cast<double>(got[i]) - static_cast<double>(want[i]);
    error += difference * difference;
    size += static_cast<double>(want[i]) * static_cast<double>(want[i]);
  }
  return std::sqrt(error / size);
}

TEST(PackedExperts, OutputErrorAgainstFloat64StaysInItsRange) {
  // A range on both sides: a result that becomes better by accident fails too. Normal weights and
  // tokens; the second pair has one token feature 20 times as large, which int8 tokens suffer from.
  struct Range {
    WeightFormat format;
    double low, high, outlier_low, outlier_high;
  };
  for (const auto& range : {Range{WeightFormat::kF32, 1e-8, 1e-6, 1e-8, 1e-6},
                            Range{WeightFormat::kBf16, 1.5e-3, 6e-3, 1.5e-3, 6e-3},
                            Range{WeightFormat::kInt8, 5e-3, 2.5e-2, 1e-2, 1e-1},
                            Range{WeightFormat::kInt4G128, 0.1, 0.3, 0.1, 0.3},
                            Range{WeightFormat::kInt4G32, 0.08, 0.22, 0.08, 0.25},
                            Range{WeightFormat::kTernary, 0.5, 1.2, 0.5, 1.2}}) {
    const auto name = format_info(range.format).name;
    const double plain = output_error(range.format, 1);
    EXPECT_GE(plain, range.low) << name;
    EXPECT_LE(plain, range.high) << name;
    const double with_outlier = output_error(range.format, 20);
    EXPECT_GE(with_outlier, range.outlier_low) << name;
    EXPECT_LE(with_outlier, range.outlier_high) << name;
  }
}

/// An ArgumentError's message.
template <typename Call>
std::string refusal(const Call& call) {
  try {
    call();
  } catch (const ArgumentError& error) {
    return error.what();
  }
  return "nothing";
}

TEST(PackedExperts, RefusesWhatIsNotFiniteWithItsPlace) {
  const FfnShape shape{2, 5, 4, 3, Activation::kSwiglu, true};
  std::mt19937 generator(41);
  const Parameters good(shape, generator);
  struct Place {
    const char* matrix;
    std::vector<float> Parameters::*values;
    std::int64_t rows, columns;  // 0: a bias
  };
  for (const auto& format : weight_formats()) {
    for (const auto& place : {Place{"gate", &Parameters::gate, 4, 5},
                              {"up", &Parameters::up, 4, 5},
                              {"down", &Parameters::down, 3, 4},
                              {"gate_bias", &Parameters::gate_bias, 4, 0},
                              {"up_bias", &Parameters::up_bias, 4, 0},
                              {"down_bias", &Parameters::down_bias, 3, 0}}) {
      for (const float value : {std::nanf(""), std::numeric_limits<float>::infinity(),
                                -std::numeric_limits<float>::infinity()}) {
        Parameters bad = good;
        const std::int64_t columns = std::max<std::int64_t>(place.columns, 1);
        // Of expert 1, row 2, the second column where there is one.
        const std::int64_t at = (place.rows + 2) * columns + (place.columns > 0 ? 1 : 0);
        (bad.*place.values)[static_cast<std::size_t>(at)] = value;
        PackedExperts packed(shape, format.format);
        packed.pack(0, bad.of_expert(shape, 0));
        EXPECT_EQ(refusal([&] { packed.pack(1, bad.of_expert(shape, 1)); }),
                  concat("PackedExperts: ", place.matrix, " of expert 1 is ", value, " at row 2",
                         place.columns > 0 ? ", column 1" : ""))
            << format.name;
      }
    }
  }
}

TEST(PackedExperts, TakesAnyFiniteWeightAsFloatAndRefusesOrClampsItElsewhere) {
  const FfnShape shape{1, 4, 1, 1, Activation::kRelu, false};
  const float most = std::numeric_limits<float>::max();
  const std::vector<float> up{most, -most, 1, 0}, down{1};
  for (const auto& format : weight_formats()) {
    PackedExperts packed(shape, format.format);
    const auto pack = [&](const std::vector<float>& from) {
      return refusal([&] { packed.pack(0, {nullptr, from.data(), down.data()}); });
    };
    Unpacked got(shape);
    if (format.per_step == 4) {
      EXPECT_EQ(pack(up),
                concat("PackedExperts: up of expert 0 is ", most, " at row 0, column 0; format ",
                       format.name, " takes at most 1.26765e+30"));
      const std::vector<float> largest{kMaxQuantizedWeight, -kMaxQuantizedWeight,
                                       kMaxQuantizedWeight, -kMaxQuantizedWeight};
      EXPECT_EQ(pack(largest), "nothing");
      packed.unpack(0, got.pointers(shape));
      EXPECT_LE(relative_error(got.up, largest), 1.0 / 128) << format.name;
      continue;
    }
    EXPECT_EQ(pack(up), "nothing");
    packed.unpack(0, got.pointers(shape));
    for (std::size_t i = 0; i < up.size(); ++i) {
      EXPECT_LE(std::fabs(got.up[i] - up[i]),
                format.format == WeightFormat::kBf16 ? std::fabs(up[i]) / 256 : 0.0F);
    }
  }
}

TEST(PackedExperts, WeightsTooSmallForAScaleCountAsZero) {
  // 2^-126 is the smallest normal number; below it 1 / scale is infinite.
  for (const float size : {1e-45F, 1e-40F, 1e-38F, 1e-37F, 1e-36F, 2e-36F, 1e-30F}) {
    const FfnShape shape{1, 6, 1, 1, Activation::kRelu, false};
    const std::vector<float> up{size, -size, size / 2, 0, -size / 3, size}, down{1};
    for (const auto& format : weight_formats()) {
      PackedExperts packed(shape, format.format);
      packed.pack(0, {nullptr, up.data(), down.data()});
      Unpacked got(shape);
      packed.unpack(0, got.pointers(shape));
      // The bounds as FormatInfo words them; ternary's scale is 1e-5 at least, and its codes 0.
      const double weight = static_cast<double>(size);
      const double bound = format.format == WeightFormat::kF32    ? 0
                           : format.format == WeightFormat::kBf16 ? std::max(weight / 256, 0x1p-134)
                           : format.format == WeightFormat::kInt8 ? std::max(weight / 254, 0x1p-119)
                           : format.group > 0 ? std::max(weight / 7 * (1 + 1.0 / 128) / 2, 0x1p-123)
                                              : weight;
      for (std::size_t i = 0; i < up.size(); ++i) {
        EXPECT_LE(std::fabs(static_cast<double>(got.up[i]) - static_cast<double>(up[i])),
                  bound * 1.00001)
            << format.name << " " << up[i];
      }
    }
  }
}

TEST(PackedExperts, RefusesMoreThanCanBeAddressed) {
  // Each size alone is allowed; 2^16 experts of more than 2^50 bytes are not.
  const std::int64_t size = std::int64_t{1} << 24;
  EXPECT_THROW(
      PackedExperts({65536, size, size, size, Activation::kSwiglu, false}, WeightFormat::kF32),
      ArgumentError);
}

TEST(PackedExperts, CopiesExpertsAsTheyArePacked) {
  const FfnShape shape{3, 40, 24, 40, Activation::kSwiglu, false};
  std::mt19937 generator(31);
  Parameters parameters(shape, generator);
  const auto from = pack_all(shape, WeightFormat::kInt4G32, parameters);
  PackedExperts to({2, 40, 24, 40, Activation::kSwiglu, false}, WeightFormat::kInt4G32);
  to.copy(1, from, 2);
  Unpacked a(shape), b(shape);
  from.unpack(2, a.pointers(shape));
  to.unpack(1, b.pointers(shape));
  EXPECT_EQ(a.up, b.up);
  EXPECT_EQ(a.down, b.down);
  EXPECT_THROW(to.copy(2, from, 0), ArgumentError);
  EXPECT_THROW(to.copy(0, from, 3), ArgumentError);
  const PackedExperts other(shape, WeightFormat::kInt8);
  EXPECT_THROW(to.copy(0, other, 0), ArgumentError);
}

TEST(Bf16, RoundsToNearestEven) {
  EXPECT_EQ(from_bf16(to_bf16(1.0F)), 1.0F);
  // 1 + 2^-8 lies between 1 and 1 + 2^-7: the even one is 1. 1 + 3 * 2^-8 goes up to 1 + 2^-6.
  EXPECT_EQ(from_bf16(to_bf16(1.00390625F)), 1.0F);
  EXPECT_EQ(from_bf16(to_bf16(1.01171875F)), 1.015625F);
  EXPECT_EQ(from_bf16(to_bf16_up(1.00390625F)), 1.0078125F);
  EXPECT_EQ(from_bf16(to_bf16_up(1.0F)), 1.0F);
  EXPECT_TRUE(std::isnan(from_bf16(to_bf16(std::nanf("")))));
  EXPECT_TRUE(std::isinf(from_bf16(to_bf16(3.4e38F))));
}

}  // namespace
}  // namespace moekit::kernels
