// What the driver hands to the kernels of one instruction set. Plain data alone:
// a source compiled for AVX-512 must not emit inline functions that others could link to.
#pragma once

#include <cstdint>
#include <functional>

#include "moekit/kernels/common/isa.h"
#include "moekit/kernels/ffn/packed_experts.h"

namespace moekit::kernels {

/// Rows of a tile. Times the four vectors of a step that is 24 accumulators, and with the weights
/// and one broadcast 29 of 32 registers. Tiles of 8 x 48 and 12 x 32 ran as fast: 97 to 98 % of the
/// peak from the first-level cache.
inline constexpr std::int64_t kTileRows = 6;
/// Rows of a left operand that share one pass over a block of weights: 24 tiles, 36 KiB of sums.
inline constexpr std::int64_t kRowBlock = 144;
/// Steps (of 256 bytes) of a block: 128 KiB, half of what the second-level cache spares; the lines
/// of the next block come in meanwhile. 128, 256, 384 and 1024 steps were slower or the same.
inline constexpr std::int64_t kBlockSteps = 512;

/// Two tiles of 16 rows of a left operand over a block's steps, one chunk of 16 steps of a panel,
/// and one tile of sums.
inline constexpr std::int64_t kMatrixScratch = 2 * 16 * kBlockSteps * 4 + 16 * 256 + 16 * 64;

/// A thread's own memory, 64-byte aligned.
struct ThreadScratch {
  char* block;           ///< [kBlockSteps, 256 bytes] decoded or copied weights
  float* sums;           ///< [kRowBlock, 64] products, float or int32
  float* scales;         ///< [kBlockSteps / 8, 64]: a group of int4 has 8 steps or more
  char* matrix;          ///< [kMatrixScratch bytes] operands brought together for matrix tiles
  char* panel;           ///< [most rows of an expert + 1, 256 bytes], backward alone
  bool follows_streams;  ///< see common/isa.h
};

/// Rows of a left operand in the form the products take: row i starts at data + r * row_bytes with
/// r = index[i], or i without index.
struct LeftRows {
  const char* data;
  std::int64_t row_bytes;
  const std::int32_t* index;
  const float* scale;        ///< [r], integer formats
  const std::int32_t* sums;  ///< [r, groups] sums of the codes of a group
  std::int64_t groups;
};

/// A product's packed weights.
struct MatrixView {
  std::int64_t inputs;
  std::int64_t steps;  ///< of 32 bits, padding included
  std::int64_t panels;
  std::int64_t panel_bytes;
  std::int64_t columns;
  std::int64_t offset;        ///< in an expert's memory, bytes
  std::int64_t bias_offset;   ///< -1: none
  std::int64_t scale_offset;  ///< -1: none
};

/// What the weights' format asks of a product.
enum class ProductKind { kF32, kBf16, kInt8, kInt4, kTernary };

struct FfnKernels;

struct BankView {
  const FfnKernels* kernels;  ///< of the instruction set that runs these products
  Activation activation;
  bool gated;
  ProductKind product;
  std::int64_t group;        ///< int4
  std::int64_t weight_bits;  ///< read for one weight
  std::int64_t num_tokens, hidden_size, intermediate_size, output_size;
  // Packed weights, or else stacked parameters.
  const char* weights;
  std::int64_t expert_bytes;
  MatrixView up, down;
  ExpertMatrices parameters;
  // Who goes where.
  const std::int64_t* offsets;
  const std::int32_t* token;
  const float* weight;
  const std::int32_t* active;
  std::int64_t num_active;
  // Operands and what comes between.
  LeftRows tokens;          ///< indexed by `token`
  LeftRows hidden_left;     ///< indexed by row
  float* hidden;            ///< [A, hidden_stride], null where only hidden16 is wanted
  std::uint16_t* hidden16;  ///< bf16, but where kernels.bf16_as_floats
  std::int64_t hidden_stride;
  float* kept_gate;  ///< [A, hidden_stride] or null
  float* kept_up;
};

/// The backward pass of a bank; views are those of the forward pass.
struct BackwardView {
  BankView bank;
  LeftRows grad_output;  ///< indexed by `token`
  const float* grad_output_f32;
  const float* tokens_f32;
  // By row a: gradients of gate and up before the activation, and weight * hidden. Both forms are
  // kept for bf16: float for the sums, bfloat16 as left operands.
  float *grad_gate, *grad_up, *weighted_hidden;  ///< [A, hidden_stride]
  std::uint16_t *grad_gate16, *grad_up16;
  float *grad_gate_rounded, *grad_up_rounded;  ///< in their place where the kernels take floats
  float* weight_parts;  ///< [A, panels of F]: what each panel adds to the weight's gradient
  std::int64_t hidden_panels;
  // Left operands of the weights' gradients, [expert][tile of 6 outputs][steps][6] of 32 bits,
  // an expert's part starting at (its first step) * width, with width rounded up to tiles.
  char *left_gate, *left_up, *left_down;
  const std::int64_t* first_step;  ///< [E + 1], rows of an expert in steps, summed up
  MutableExpertMatrices grad;
  float* grad_tokens;
};

/// The forward kernels of one instruction set, and what measures the machine with its instructions.
struct FfnKernels {
  /// Hidden values of panels [begin, end) of one expert.
  void (*up)(const BankView&, std::int64_t expert, std::int64_t begin, std::int64_t end,
             const ThreadScratch&);
  /// Adds all active experts' outputs to the columns of panel `panel` of y.
  void (*down)(const BankView&, float* y, std::int64_t panel, const ThreadScratch&);
  /// float rows to left operands: bf16, or int8 with scale and group sums.
  void (*round_rows)(const float* from, std::int64_t stride, std::int64_t columns,
                     std::int64_t begin, std::int64_t end, std::uint16_t* to,
                     std::int64_t to_stride);
  void (*round_floats)(const float* from, std::int64_t stride, std::int64_t columns,
                       std::int64_t begin, std::int64_t end, float* to, std::int64_t to_stride);
  bool bf16_as_floats;  ///< left operands of bf16 are floats, rounded: round_floats, not round_rows
  void (*quantize_rows)(const float* from, std::int64_t stride, std::int64_t columns,
                        std::int64_t begin, std::int64_t end, std::int8_t* to,
                        std::int64_t to_stride, float* scale, std::int32_t* sums,
                        std::int64_t group);
  /// Operations a second of the registers alone: multiply-adds of f32, bf16, int8, `count` long.
  void (*spin_f32)(std::int64_t count);
  void (*spin_bf16)(std::int64_t count);
  void (*spin_int8)(std::int64_t count);
  std::int64_t spin_operations[3];  ///< operations of one count of each
  /// Reads memory once, as fast as one thread can; the sum of its words.
  std::uint32_t (*read)(const char* data, std::int64_t bytes);
  /// Writes memory once, past the caches, as gradients are. 64-byte aligned, whole steps.
  void (*write)(char* data, std::int64_t bytes);
};

/// The backward kernels of one instruction set, in their order; each needs the one before done for
/// its expert. A table of its own: its source is compiled beside that of the forward kernels.
struct FfnBackwardKernels {
  bool bf16_as_floats;  ///< as that of the forward kernels, of which it may differ
  void (*grad_hidden)(const BackwardView&, std::int64_t expert, std::int64_t panel,
                      const ThreadScratch&);
  void (*pack_left)(const BackwardView&, std::int64_t expert, std::int64_t which);
  void (*grad_weights)(const BackwardView&, std::int64_t expert, bool down, std::int64_t panel,
                       const ThreadScratch&);
  void (*grad_tokens)(const BackwardView&, std::int64_t panel, const ThreadScratch&);
};

/// @throws ArgumentError for the reference, which has none.
const FfnKernels& ffn_kernels(Isa isa);
/// @throws ArgumentError for the reference, which has none.
const FfnBackwardKernels& ffn_backward_kernels(Isa isa);

/// Whether `work` runs to its end: false where it meets an instruction that the processor lacks.
/// What it holds is not destroyed then.
bool runs_here(const std::function<void()>& work);

const FfnKernels* ffn_kernels_avx2();
const FfnKernels* ffn_kernels_avx512();
const FfnKernels* ffn_kernels_avx512_vnni();
const FfnKernels* ffn_kernels_neon();
const FfnKernels* ffn_kernels_neon_dot();
const FfnKernels* ffn_kernels_avx512_amx();
const FfnBackwardKernels* ffn_backward_avx2();
const FfnBackwardKernels* ffn_backward_avx512();
const FfnBackwardKernels* ffn_backward_avx512_vnni();
const FfnBackwardKernels* ffn_backward_neon();
const FfnBackwardKernels* ffn_backward_neon_dot();

}  // namespace moekit::kernels
