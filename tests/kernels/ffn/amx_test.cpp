// No machine with AMX was there to write these kernels on: they run over an emulation of its
// instructions, which the first tests compare with sums worked by hand.
#include <gtest/gtest.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <numeric>

#include "moekit/core/error.h"
#include "moekit/kernels/ffn/driver.h"
#include "tests/kernels/ffn/amx_emulated.h"
#include "tests/kernels/ffn/emulated_tiles.h"
#include "tests/kernels/ffn/expert_ffn_support.h"

namespace moekit::kernels {
namespace {

// ---- the emulation --------------------------------------------------------------------------

/// One row of `steps` steps times one column of 32 bits: tile 0 += tile 4 times tile 6.
TileConfig small_config(int steps) {
  TileConfig config{};
  config.palette = 1;
  config.rows[0] = config.rows[4] = 1;
  config.row_bytes[0] = config.row_bytes[6] = 4;
  config.row_bytes[4] = static_cast<std::uint16_t>(4 * steps);
  config.rows[6] = static_cast<std::uint8_t>(steps);
  return config;
}

/// The sum after one TDPBF16PS of pairs of left and right values.
float emulated_bf16(float sum, const std::vector<float>& left, const std::vector<float>& right) {
  std::vector<std::uint16_t> a, b;
  for (const float value : left) a.push_back(to_bf16(value));
  for (const float value : right) b.push_back(to_bf16(value));
  EmulatedTiles::configure(small_config(static_cast<int>(left.size() / 2)));
  EmulatedTiles::load<0>(&sum, 4);
  EmulatedTiles::load<4>(a.data(), 64);
  EmulatedTiles::load<6>(b.data(), 4);
  EmulatedTiles::dot_bf16<0, 4, 6>();
  EmulatedTiles::store<0>(&sum, 4);
  EmulatedTiles::release();
  return sum;
}

TEST(EmulatedTiles, SumsOfBfloat16PairsAreAddedAsTheManualSays) {
  // 1 + 2 * 3 + 4 * 5 + 6 * 7 + 8 * 9
  EXPECT_EQ(emulated_bf16(1, {2, 4, 6, 8}, {3, 5, 7, 9}), 141.0F);
  // One and one are added before 2^24 takes their sum; either alone would be rounded away.
  EXPECT_EQ(emulated_bf16(0x1p24F, {1, 1}, {1, 1}), 0x1p24F + 2);
  // Even and odd elements have sums of their own over the steps: (2^24 + 1) - 2^24 loses the one,
  // 1 - 0 beside it does not.
  EXPECT_EQ(emulated_bf16(0, {0x1p24F, 1, 1, 0, -0x1p24F, 0}, {1, 1, 1, 1, 1, 1}), 1.0F);
  // Denormal operands, sums and results count as zeros.
  EXPECT_EQ(emulated_bf16(0, {0x1p-127F, 0}, {0x1p100F, 0}), 0.0F);
  EXPECT_EQ(emulated_bf16(0, {0x1p-64F, 0}, {0x1p-63F, 0}), 0.0F);
  EXPECT_EQ(emulated_bf16(0x1p-127F, {1, 0}, {0x1p-126F, 0}), 0x1p-126F);
  EXPECT_EQ(EmulatedTiles::fault(), nullptr);
}

TEST(EmulatedTiles, SignedBytesMeetUnsignedOnes) {
  const unsigned char left[] = {0xff, 2, 0x80, 0, 1, 0, 0, 0};  // -1, 2, -128, 0, 1
  const unsigned char right[] = {255, 100, 1, 9, 200, 9, 9, 9};
  std::int32_t sum = 1000;
  EmulatedTiles::configure(small_config(2));
  EmulatedTiles::load<0>(&sum, 4);
  EmulatedTiles::load<4>(left, 64);
  EmulatedTiles::load<6>(right, 4);
  EmulatedTiles::dot_int8<0, 4, 6>();
  EmulatedTiles::store<0>(&sum, 4);
  EmulatedTiles::release();
  EXPECT_EQ(sum, 1000 - 255 + 200 - 128 + 200);
  EXPECT_EQ(EmulatedTiles::fault(), nullptr);
}

TEST(EmulatedTiles, OnlyConfiguredRowsAndBytesAreReadAndWritten) {
  TileConfig config = tile_config(3);
  config.row_bytes[0] = 8;
  EmulatedTiles::configure(config);
  std::vector<unsigned char> from(3 * 10), to(4 * 10, 7);
  std::iota(from.begin(), from.end(), static_cast<unsigned char>(1));
  EmulatedTiles::load<0>(from.data(), 10);
  EmulatedTiles::store<0>(to.data(), 10);
  for (std::size_t i = 0; i < to.size(); ++i) {
    EXPECT_EQ(to[i], i < 30 && i % 10 < 8 ? from[i] : 7) << i;
  }
  EmulatedTiles::zero<0>();
  EmulatedTiles::store<0>(to.data(), 10);
  EXPECT_EQ(to[0], 0);
  EmulatedTiles::release();
  EXPECT_EQ(EmulatedTiles::fault(), nullptr);
}

TEST(EmulatedTiles, SayWhatAProcessorWouldRefuse) {
  const auto fault_of = [](const auto& run) {
    run();
    EmulatedTiles::release();
    const char* fault = EmulatedTiles::fault();
    EmulatedTiles::fault() = nullptr;
    return std::string(fault == nullptr ? "" : fault);
  };
  EXPECT_EQ(fault_of([] { EmulatedTiles::zero<0>(); }), "a tile that is not configured");
  EXPECT_EQ(fault_of([] {
              EmulatedTiles::configure(tile_config(16));
              EmulatedTiles::dot_int8<0, 4, 6>();
            }),
            "");
  EXPECT_EQ(fault_of([] {
              EmulatedTiles::configure(tile_config(16));
              EmulatedTiles::dot_int8<0, 4, 4>();
            }),
            "a product of one tile with itself");
  EXPECT_EQ(fault_of([] {
              TileConfig config = tile_config(16);
              config.rows[6] = 15;
              EmulatedTiles::configure(config);
              EmulatedTiles::dot_bf16<0, 4, 6>();
            }),
            "a product of tiles that do not fit");
  EXPECT_EQ(fault_of([] { EmulatedTiles::configure(tile_config(17)); }),
            "LDTILECFG: tile too large");
  EXPECT_EQ(fault_of([] {
              TileConfig config = tile_config(16);
              config.rows[9] = 1;
              EmulatedTiles::configure(config);
            }),
            "LDTILECFG: reserved bytes are not 0");
}

// ---- the kernels ----------------------------------------------------------------------------

ProductKind product_kind(const FormatInfo& info) {
  if (info.group > 0) return ProductKind::kInt4;
  if (info.format == WeightFormat::kF32) return ProductKind::kF32;
  if (info.format == WeightFormat::kBf16) return ProductKind::kBf16;
  return info.format == WeightFormat::kTernary ? ProductKind::kTernary : ProductKind::kInt8;
}

/// Hidden values before the activation of one expert, whose rows are tokens `index`.
class UpValues {
 public:
  /// @param packed  its first expert, or with `parameters` these in its place
  UpValues(const FfnKernels& kernels, const PackedExperts& packed, const std::vector<float>& tokens,
           const std::vector<std::int32_t>& index, const ExpertMatrices* parameters = nullptr) {
    const FormatInfo& info = packed.info();
    BankView view{};
    view_shape(view, packed.shape());
    view.product = product_kind(info);
    view.group = info.group;
    view.up = view_of(packed.up_layout(), info);
    if (parameters == nullptr) {
      view.weights = packed.panel(0, packed.up_layout(), 0);
      const auto* scale = reinterpret_cast<const char*>(packed.up_scale(0));
      if (scale != nullptr) view.up.scale_offset = scale - view.weights;
    } else {
      view.parameters = *parameters;
    }
    const auto rows = static_cast<std::int64_t>(index.size());
    const std::int64_t offsets[] = {0, rows};
    view.offsets = offsets;
    const std::int64_t count = static_cast<std::int64_t>(tokens.size()) / view.hidden_size;
    Arena arena;
    float* values = nullptr;
    left_.reserve(arena, view.product, false, view.group, count, packed.up_layout().padded_inputs);
    arena.add(values, rows * view.hidden_stride);
    arena.place(slab_);
    convert_rows(kernels, runner_.pool, left_, view.group, tokens.data(), view.hidden_size,
                 view.hidden_size, count);
    view.tokens = left_.rows(index.data());
    view.kept_up = values;
    const auto& scratch = thread_scratch(runner_.workspace.buffers(), 1, 0);
    kernels.up(view, 0, 0, view.up.panels, scratch.front());
    for (std::int64_t r = 0; r < rows; ++r) {
      values_.insert(values_.end(), values + r * view.hidden_stride,
                     values + r * view.hidden_stride + view.intermediate_size);
    }
  }

  /// [rows, F]
  const std::vector<float>& values() const { return values_; }
  /// The tokens as left operands.
  const LeftBuffers& left() const { return left_; }

 private:
  Runner runner_{1};
  Slab slab_;
  LeftBuffers left_;
  std::vector<float> values_;
};

float without_denormals(float value) {
  return std::fabs(value) < std::numeric_limits<float>::min() ? std::copysign(0.0F, value) : value;
}

/// What TDPBF16PS makes of a row and a column: 32 inputs at a time, even and odd ones each for
/// themselves.
float bf16_on_tiles(const std::vector<float>& a, const std::vector<float>& b) {
  float sum = 0;
  for (std::size_t begin = 0; begin < a.size(); begin += 32) {
    float temp[2] = {0, 0};
    for (std::size_t k = begin; k < std::min(a.size(), begin + 32); ++k) {
      temp[k % 2] = without_denormals(
          std::fma(without_denormals(a[k]), without_denormals(b[k]), temp[k % 2]));
    }
    sum = without_denormals(sum + without_denormals(temp[0] + temp[1]));
  }
  return sum;
}

/// And the vectors of few rows: two multiply-adds for each pair.
float bf16_on_vectors(const std::vector<float>& a, const std::vector<float>& b) {
  float sum = 0;
  for (std::size_t k = 0; k < a.size(); ++k) sum = std::fma(a[k], b[k], sum);
  return sum;
}

/// Bits, so that the sign of a zero counts.
std::vector<std::uint32_t> bits_of(const std::vector<float>& values) {
  std::vector<std::uint32_t> bits;
  bits.reserve(values.size());
  for (const float value : values) bits.push_back(std::bit_cast<std::uint32_t>(value));
  return bits;
}

/// Tokens of an expert in order, or some of more tokens in none.
std::vector<std::int32_t> some_index(std::mt19937& generator, std::int64_t tokens,
                                     std::int64_t rows) {
  std::vector<std::int32_t> index(static_cast<std::size_t>(tokens));
  std::iota(index.begin(), index.end(), 0);
  if (tokens > rows) std::shuffle(index.begin(), index.end(), generator);
  index.resize(static_cast<std::size_t>(rows));
  return index;
}

class AmxKernels : public testing::Test {
 protected:
  void SetUp() override {
    if (ffn_kernels_amx_emulated() == nullptr || !isa_supported(Isa::kAvx512Vnni)) {
      GTEST_SKIP() << "the emulation itself is compiled for avx512-vnni";
    }
  }
  void TearDown() override { EXPECT_STREQ(emulated_fault(), nullptr); }
  /// Whether sums of rows x one panel of `shape` have the bits of a plain loop.
  void check_bf16(std::int64_t rows, std::int64_t inputs, std::int64_t columns, bool in_order,
                  float scale = 1) {
    std::mt19937 generator(static_cast<unsigned>(rows * 1000 + inputs));
    const FfnShape shape{1, inputs, columns, 1, Activation::kRelu, false};
    Parameters parameters(shape, generator);
    for (auto& weight : parameters.up) weight *= scale;
    const std::int64_t count = in_order ? rows : rows + 5;
    const auto tokens = random_values(generator, count * inputs);
    const auto index = some_index(generator, count, rows);
    const auto packed = pack_all(shape, WeightFormat::kBf16, parameters);
    const ExpertMatrices matrices = parameters.of_expert(shape, 0);
    const auto& kernels = *ffn_kernels_amx_emulated();
    const UpValues got(kernels, packed, tokens, index);
    const UpValues of_parameters(kernels, packed, tokens, index, &matrices);
    std::vector<float> want;
    for (const auto token : index) {
      std::vector<float> a(static_cast<std::size_t>(inputs)), b(a.size());
      for (std::size_t k = 0; k < a.size(); ++k) {
        a[k] = from_bf16(to_bf16(tokens[static_cast<std::size_t>(token * inputs) + k]));
      }
      for (std::int64_t c = 0; c < columns; ++c) {
        const char* panel = packed.panel(0, packed.up_layout(), c / kPanelColumns);
        for (std::size_t k = 0; k < a.size(); ++k) {
          b[k] = read_weight(panel, packed.info(), static_cast<std::int64_t>(k), c % kPanelColumns)
                     .code;
        }
        want.push_back(rows > kTileRows ? bf16_on_tiles(a, b) : bf16_on_vectors(a, b));
      }
    }
    EXPECT_EQ(bits_of(got.values()), bits_of(want)) << rows << " rows of " << inputs << " inputs";
    EXPECT_EQ(bits_of(of_parameters.values()), bits_of(want))
        << rows << " rows of " << inputs << " inputs";
  }
};

TEST_F(AmxKernels, SumsOfBfloat16HaveTheBitsOfTheManualsOrder) {
  for (std::int64_t rows = 1; rows <= 40; ++rows) {
    check_bf16(rows, 2 * (1 + rows * 7 % 40), 35, rows % 2 == 0);
  }
  // One step is two inputs: whole chunks of 16 steps and blocks of 64 and 512, one step fewer, one
  // more, and half a step.
  for (const std::int64_t steps : {1, 2, 15, 16, 17, 31, 48, 63, 64, 65, 100, 257}) {
    for (const std::int64_t rows : {7, 12, 16, 17, 40}) {
      check_bf16(rows, 2 * steps, 5, rows % 2 == 1);
      check_bf16(rows, 2 * steps - 1, 5, rows % 2 == 0);
    }
  }
  for (const std::int64_t steps : {511, 512, 513, 520})
    check_bf16(33, 2 * steps, 3, steps % 2 == 0);
  for (const std::int64_t rows : {48, 49, 144, 145, 150}) check_bf16(rows, 70, 66, rows % 2 == 0);
  check_bf16(20, 64, 10, true, 0x1p-126F);  // denormal weights, products and sums
}

TEST_F(AmxKernels, SumsOfIntegersAreExact) {
  for (const auto format : {WeightFormat::kInt8, WeightFormat::kTernary}) {
    for (std::int64_t rows = 1; rows <= 40; ++rows) {
      for (const std::int64_t steps : {1 + rows * 13 % 70, rows % 8 == 0 ? 521 - rows : 16}) {
        const std::int64_t inputs = 4 * steps - rows % 4;
        std::mt19937 generator(static_cast<unsigned>(rows * 1000 + inputs));
        const FfnShape shape{1, inputs, 70, 1, Activation::kRelu, false};
        Parameters parameters(shape, generator);
        const std::int64_t count = rows % 3 == 0 ? rows : rows + 5;
        const auto tokens = random_values(generator, count * inputs);
        const auto index = some_index(generator, count, rows);
        const auto packed = pack_all(shape, format, parameters);
        const UpValues got(*ffn_kernels_amx_emulated(), packed, tokens, index);
        std::vector<float> want;
        for (const auto token : index) {
          const std::int8_t* codes = got.left().codes + token * got.left().stride;
          for (std::int64_t c = 0; c < 70; ++c) {
            const char* panel = packed.panel(0, packed.up_layout(), c / kPanelColumns);
            std::int32_t sum = 0;
            for (std::int64_t k = 0; k < inputs; ++k) {
              const auto weight = read_weight(panel, packed.info(), k, c % kPanelColumns);
              sum += static_cast<std::int32_t>(weight.code) * codes[k];
            }
            want.push_back(static_cast<float>(sum) *
                           (packed.up_scale(0)[c] * got.left().scale[token]));
          }
        }
        EXPECT_EQ(bits_of(got.values()), bits_of(want))
            << packed.info().name << " " << rows << " " << inputs;
      }
    }
  }
}

/// Sizes that no 16 divides, many rows, several blocks of rows and of inputs.
struct Case {
  FfnShape shape;
  std::int64_t tokens, top_k, used;
};

std::vector<Case> cases() {
  using A = Activation;
  return {{{1, 1, 1, 1, A::kRelu, false}, 9, 1, 1},
          {{5, 33, 31, 35, A::kGeglu, true}, 13, 5, 5},
          {{3, 65, 97, 63, A::kReglu, true}, 40, 2, 2},
          {{7, 130, 33, 64, A::kSwiglu, true}, 0, 3, 7},
          {{2, 48, 100, 129, A::kGelu, true}, 170, 1, 1},
          {{3, 257, 130, 70, A::kRelu, true}, 29, 2, 3},
          {{2, 2100, 65, 66, A::kSwiglu, false}, 17, 1, 2},
          {{2, 70, 1300, 3, A::kGelu, false}, 20, 2, 2}};
}

TEST_F(AmxKernels, AWholeForwardPassGivesTheNumbersOfOtherSets) {
  Runner runner;
  for (const auto& c : cases()) {
    std::mt19937 generator(7);
    Parameters parameters(c.shape, generator);
    const auto plan = random_plan(generator, c.tokens, c.shape.num_experts, c.top_k, c.used);
    const auto tokens = random_values(generator, c.tokens * c.shape.hidden_size);
    for (const auto& format : weight_formats()) {
      const auto packed = pack_all(c.shape, format.format, parameters);
      const auto size = static_cast<std::size_t>(c.tokens * c.shape.output_size);
      std::vector<float> want(size), vectors(size), got(size, 9);
      forward_with({{&packed, &plan}}, tokens.data(), got.data(), runner.pool, runner.workspace,
                   [](ProductKind) -> const FfnKernels& { return *ffn_kernels_amx_emulated(); });
      expert_ffn_forward({{&packed, &plan}}, tokens.data(), want.data(),
                         runner.on(Isa::kReference));
      expert_ffn_forward({{&packed, &plan}}, tokens.data(), vectors.data(),
                         runner.on(Isa::kAvx512Vnni));
      // As the tests of the other sets: an integer code may differ by one where sums do.
      const double tolerance = format.format == WeightFormat::kF32    ? 2e-6
                               : format.format == WeightFormat::kBf16 ? 4e-3
                                                                      : 2e-2;
      EXPECT_LE(relative_error(got, want), tolerance)
          << format.name << " D " << c.shape.hidden_size << " F " << c.shape.intermediate_size;
      // Sums of integers are exact, those of float32 and what is done with sums the same code.
      if (format.format != WeightFormat::kBf16) {
        EXPECT_EQ(bits_of(got), bits_of(vectors)) << format.name << " D " << c.shape.hidden_size;
      }
    }
  }
}

/// Products of tiles that `rows` rows of a format take.
std::int64_t products_of(WeightFormat format, std::int64_t rows) {
  std::mt19937 generator(3);
  const FfnShape shape{1, 256, 64, 1, Activation::kRelu, false};
  Parameters parameters(shape, generator);
  const auto packed = pack_all(shape, format, parameters);
  const auto tokens = random_values(generator, rows * 256);
  const std::int64_t before = emulated_products();
  const UpValues values(*ffn_kernels_amx_emulated(), packed, tokens,
                        some_index(generator, rows, rows));
  return emulated_products() - before;
}

TEST_F(AmxKernels, TilesAreForMoreRowsThanAVectorTileHas) {
  for (const auto& format : weight_formats()) {
    EXPECT_EQ(products_of(format.format, kTileRows), 0) << format.name;
    // 256 inputs are 8 chunks of bfloat16, 4 of bytes; a chunk takes 4 tiles of columns.
    const bool vectors =
        format.format == WeightFormat::kF32 || format.format == WeightFormat::kInt4G32;
    const std::int64_t chunks = vectors ? 0 : format.format == WeightFormat::kBf16 ? 8 : 4;
    EXPECT_EQ(products_of(format.format, 7), 4 * chunks) << format.name;
    EXPECT_EQ(products_of(format.format, 16), 4 * chunks) << format.name;
    EXPECT_EQ(products_of(format.format, 33), 3 * 4 * chunks) << format.name;
  }
}

TEST_F(AmxKernels, MeasuringCountsTheOperationsOfTiles) {
  const auto& kernels = *ffn_kernels_amx_emulated();
  // 16 x 16 sums of 16 steps: two products and two additions a step, or four of each.
  EXPECT_EQ(kernels.spin_operations[1], 16 * 16 * 16 * 4);
  EXPECT_EQ(kernels.spin_operations[2], 16 * 16 * 16 * 8);
  EXPECT_EQ(kernels.spin_operations[0], ffn_kernels(Isa::kAvx512Vnni).spin_operations[0]);
  const std::int64_t before = emulated_products();
  kernels.spin_f32(8);
  EXPECT_EQ(emulated_products(), before);
  kernels.spin_bf16(8);
  kernels.spin_int8(8);
  EXPECT_EQ(emulated_products(), before + 16);
}

TEST(Amx, IsTheFirstOfTheInstructionSets) {
  EXPECT_EQ(known_isas().front(), Isa::kAvx512Amx);
  EXPECT_EQ(isa_name(Isa::kAvx512Amx), "avx512-amx");
  EXPECT_EQ(parse_isa("avx512-amx"), Isa::kAvx512Amx);
  const int avx512 = 3, avx2 = 2, generic = 1;
  EXPECT_EQ(choose_form(Isa::kAvx512Amx, &avx512, &avx2, &generic), 3);
  if (isa_supported(Isa::kAvx512Amx)) {
    EXPECT_TRUE(isa_supported(Isa::kAvx512Vnni));
    EXPECT_EQ(&ffn_backward_kernels(Isa::kAvx512Amx), &ffn_backward_kernels(Isa::kAvx512));
    return;
  }
  Runner runner;
  EXPECT_THROW(check_execution(runner.on(Isa::kAvx512Amx)), ArgumentError);
}

}  // namespace
}  // namespace moekit::kernels
