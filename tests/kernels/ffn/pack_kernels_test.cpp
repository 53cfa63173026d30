// Packing held against plain code, byte for byte, in every form that this machine runs.
#include "moekit/kernels/ffn/pack_kernels.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>

#include "tests/kernels/ffn/expert_ffn_support.h"

namespace moekit::kernels {
namespace {

constexpr auto kColumns = static_cast<std::size_t>(kPanelColumns);

/// One panel's weights, a column each; those past `there` are null.
struct Columns {
  Columns(std::int64_t inputs_, std::size_t there, std::mt19937& generator) : inputs(inputs_) {
    for (std::size_t c = 0; c < there; ++c) {
      values.push_back(random_values(generator, inputs, c % 5 == 0 ? 1e-3F : 1));
      // What rounds to even, what is not rounded, and zeros of both signs.
      auto& column = values.back();
      if (c % 7 == 1) std::fill(column.begin(), column.end(), c % 2 == 0 ? 0.0F : -0.0F);
      if (c % 7 == 2) column[0] = 1e30F;
      if (c % 7 == 3) column.back() = 0x1p-130F;
      if (c % 7 == 4) std::fill(column.begin(), column.end(), 0x1p-128F);
    }
  }
  std::vector<const float*> rows() const {
    std::vector<const float*> out(kColumns, nullptr);
    for (std::size_t c = 0; c < values.size(); ++c) out[c] = values[c].data();
    return out;
  }
  std::int64_t inputs;
  std::vector<std::vector<float>> values;
};

float largest_of(const float* from, std::int64_t count) {
  float most = 0;
  for (std::int64_t i = 0; i < count; ++i) most = std::max(most, std::fabs(from[i]));
  return most;
}

float scale_of(const FormatInfo& format, const std::vector<float>& column) {
  if (format.format == WeightFormat::kTernary) return 0.7F;
  const float scale = largest_of(column.data(), std::ssize(column)) / 127;
  return scale < 0x1p-126F ? 0 : scale;
}

int code_of(float weight, float scale, int low, int high) {
  const float ratio = scale > 0 ? weight / scale : 0;
  return static_cast<int>(
      std::clamp(std::nearbyint(ratio), static_cast<float>(low), static_cast<float>(high)));
}

/// The panel as the layout's description has it, one weight after the other.
std::vector<char> plain_panel(const FormatInfo& format, const Columns& columns,
                              const std::vector<float>& scales) {
  const auto layout = make_panel_layout(columns.inputs, kPanelColumns, format, 0);
  std::vector<char> panel(static_cast<std::size_t>(layout.panel_bytes), 0);
  const std::int64_t packed = 32 / (format.code_bits * format.per_step);
  for (std::size_t c = 0; c < columns.values.size(); ++c) {
    const auto& column = columns.values[c];
    for (std::int64_t k = 0; k < columns.inputs; ++k) {
      const float weight = column[static_cast<std::size_t>(k)];
      const std::int64_t group = format.group > 0 ? k / format.group : 0;
      const std::int64_t in_group = format.group > 0 ? k % format.group : k;
      const std::int64_t group_bytes = 128 + format.group * 32;
      char* base = panel.data() + (format.group > 0 ? group * group_bytes + 128 : 0);
      const std::int64_t step = in_group / format.per_step;
      char* word = base + step / packed * 256 + static_cast<std::int64_t>(c) * 4;
      if (format.format == WeightFormat::kF32) {
        std::memcpy(word, &weight, 4);
        continue;
      }
      if (format.format == WeightFormat::kBf16) {
        const auto half = to_bf16(std::clamp(weight, -0x1.fep127F, 0x1.fep127F));
        std::memcpy(word + in_group % 2 * 2, &half, 2);
        continue;
      }
      float scale = scales[c];
      int low = format.format == WeightFormat::kTernary ? -1 : -127;
      int high = -low;
      if (format.group > 0) {
        const std::int64_t begin = group * format.group;
        const std::int64_t size = std::min(format.group, columns.inputs - begin);
        const float of_group = largest_of(column.data() + begin, size) / 7;
        const auto stored = to_bf16_up(of_group < 0x1p-126F ? 0 : of_group);
        std::memcpy(base - 128 + 2 * c, &stored, 2);
        scale = from_bf16(stored);
        low = -8;
        high = 7;
      }
      auto& byte = reinterpret_cast<unsigned char&>(word[in_group % 4]);
      byte =
          static_cast<unsigned char>(byte | (code_of(weight, scale, low, high) + format.code_offset)
                                                << (step % packed * format.code_bits));
    }
  }
  return panel;
}

TEST(PackKernels, EveryFormWritesWhatPlainCodeWrites) {
  std::mt19937 generator(31);
  for (const auto& format : weight_formats()) {
    for (const std::int64_t inputs :
         {1, 3, 15, 16, 17, 31, 64, 127, 128, 129, 255, 256, 300, 640}) {
      for (const std::size_t there : {std::size_t{1}, std::size_t{33}, kColumns}) {
        const Columns columns(inputs, there, generator);
        std::vector<float> scales(kColumns, 0);
        for (std::size_t c = 0; c < there; ++c) scales[c] = scale_of(format, columns.values[c]);
        const auto want = plain_panel(format, columns, scales);
        for (const auto isa : supported_isas()) {
          std::vector<char> got(want.size(), 'x');
          pack_kernels(isa).pack(format, columns.rows().data(), scales.data(), inputs, got.data());
          const auto differs = std::mismatch(want.begin(), want.end(), got.begin());
          ASSERT_EQ(differs.first, want.end())
              << format.name << " " << isa_name(isa) << ", " << inputs << " inputs, " << there
              << " columns, byte " << differs.first - want.begin();
        }
      }
    }
  }
}

TEST(PackKernels, EveryFormReadsWhatPlainCodeReads) {
  std::mt19937 generator(37);
  for (const auto& format : weight_formats()) {
    for (const std::int64_t inputs : {1, 17, 127, 128, 300}) {
      const Columns columns(inputs, 50, generator);
      std::vector<float> scales(kColumns, 0.25F);
      const auto panel = plain_panel(format, columns, scales);
      for (const auto isa : supported_isas()) {
        std::vector<std::vector<float>> got(kColumns, std::vector<float>(columns.values[0]));
        std::vector<float*> rows;
        for (auto& column : got) rows.push_back(column.data());
        rows[3] = nullptr;
        const auto untouched = got[3];
        const bool scaled = format.per_step == 4 && format.group == 0;
        pack_kernels(isa).unpack(format, panel.data(), scaled ? scales.data() : nullptr, inputs,
                                 rows.data());
        EXPECT_EQ(got[3], untouched);
        for (std::size_t c = 0; c < kColumns; ++c) {
          for (std::int64_t k = 0; c != 3 && k < inputs; ++k) {
            const auto plain = read_weight(panel.data(), format, k, static_cast<std::int64_t>(c));
            const float want = plain.code * plain.scale * (scaled ? 0.25F : 1.0F);
            ASSERT_EQ(std::bit_cast<std::uint32_t>(got[c][static_cast<std::size_t>(k)]),
                      std::bit_cast<std::uint32_t>(want))
                << format.name << " " << isa_name(isa) << ", input " << k << ", column " << c;
          }
        }
      }
    }
  }
}

TEST(PackKernels, SumsAndSearchesAreTheSameInEveryForm) {
  std::mt19937 generator(41);
  for (const std::int64_t count : {0, 1, 7, 8, 9, 100, 4099}) {
    auto values = random_values(generator, count);
    const float want = largest_of(values.data(), count);
    const double sum = pack_kernels(Isa::kReference).sum_of_sizes(values.data(), count);
    for (const auto isa : supported_isas()) {
      const auto& kernels = pack_kernels(isa);
      EXPECT_EQ(kernels.largest(values.data(), count), want) << isa_name(isa) << " " << count;
      EXPECT_EQ(kernels.sum_of_sizes(values.data(), count), sum) << isa_name(isa) << " " << count;
      EXPECT_TRUE(kernels.all_within(values.data(), count, want));
      if (count == 0) continue;
      EXPECT_FALSE(kernels.all_within(values.data(), count, std::nextafter(want, 0.0F)));
      for (const float bad : {NAN, -NAN, INFINITY, -INFINITY}) {
        auto wrong = values;
        wrong[static_cast<std::size_t>(count) / 2] = bad;
        EXPECT_FALSE(kernels.all_within(wrong.data(), count, 0x1.fffffep127F));
      }
    }
  }
}

TEST(PackKernels, ThreadsChangeNothing) {
  const FfnShape shape{2, 200, 150, 70, Activation::kSwiglu, true};
  std::mt19937 generator(43);
  Parameters parameters(shape, generator);
  ThreadPool pool(3);
  for (const auto& format : weight_formats()) {
    PackedExperts alone(shape, format.format), together(shape, format.format);
    for (std::int64_t e = 0; e < shape.num_experts; ++e) {
      alone.pack(e, parameters.of_expert(shape, e));
      together.pack(e, parameters.of_expert(shape, e), &pool);
      EXPECT_EQ(std::memcmp(alone.panel(e, alone.up_layout(), 0),
                            together.panel(e, together.up_layout(), 0),
                            static_cast<std::size_t>(alone.expert_bytes())),
                0)
          << format.name;
      const auto unpacked = [&](ThreadPool* threads) {
        Parameters out = parameters;
        const auto f = static_cast<std::ptrdiff_t>(shape.intermediate_size);
        const auto d = static_cast<std::ptrdiff_t>(shape.hidden_size);
        const auto o = static_cast<std::ptrdiff_t>(shape.output_size);
        together.unpack(e,
                        {out.gate.data() + e * f * d, out.up.data() + e * f * d,
                         out.down.data() + e * o * f, out.gate_bias.data() + e * f,
                         out.up_bias.data() + e * f, out.down_bias.data() + e * o},
                        threads);
        return out;
      };
      const auto one = unpacked(nullptr), three = unpacked(&pool);
      EXPECT_EQ(one.gate, three.gate) << format.name;
      EXPECT_EQ(one.up, three.up) << format.name;
      EXPECT_EQ(one.down, three.down) << format.name;
      if (format.format == WeightFormat::kF32) {
        EXPECT_EQ(one.down, parameters.down);
      }
    }
  }
}

}  // namespace
}  // namespace moekit::kernels
