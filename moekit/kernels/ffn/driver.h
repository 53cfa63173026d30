// What the forward and the training pass share: memory of a call, checks, rounds of the pool.
#pragma once

#include <algorithm>
#include <array>
#include <functional>
#include <vector>

#include "moekit/core/error.h"
#include "moekit/kernels/ffn/expert_ffn.h"
#include "moekit/kernels/ffn/ffn_kernels.h"

namespace moekit::kernels {

inline std::int64_t round_up(std::int64_t value, std::int64_t multiple) {
  return (value + multiple - 1) / multiple * multiple;
}

/// Panels that so many columns take.
inline std::int64_t count_panels(std::int64_t columns) {
  return (columns + kPanelColumns - 1) / kPanelColumns;
}

/// Cuts one slab into 64-byte aligned arrays: first add() for each, then place() for all.
class Arena {
 public:
  template <typename T>
  void add(T*& pointer, std::int64_t count) {
    MOEKIT_CHECK(used_ < places_.size(), "expert kernels: more than ", places_.size() / 4 - 3,
                 " banks in one call");
    places_[used_++] = {reinterpret_cast<void**>(&pointer), bytes_};
    bytes_ += round_up(count * static_cast<std::int64_t>(sizeof(T)), 64);
  }
  void place(Slab& slab) const {
    slab.reserve(static_cast<std::size_t>(bytes_));
    for (std::size_t i = 0; i < used_; ++i) *places_[i].pointer = slab.data() + places_[i].offset;
  }

 private:
  struct Place {
    void** pointer;
    std::int64_t offset;
  };
  std::array<Place, 64> places_{};
  std::size_t used_ = 0;
  std::int64_t bytes_ = 0;
};

/// A row's stride that no power of two divides far: rows 8 KiB apart would share few cache sets.
inline std::int64_t spread_stride(std::int64_t size, std::int64_t multiple = 32) {
  return round_up(size, multiple) + multiple;
}

/// The instruction set that runs a kind of products.
inline Isa path_of(const FormatPaths& paths, ProductKind product) {
  if (product == ProductKind::kF32) return paths.f32;
  return product == ProductKind::kBf16 ? paths.bf16 : paths.int8;
}

/// The rows of a left operand, copied into memory of the workspace: spread, and rounded.
struct LeftBuffers {
  float* copy = nullptr;
  bool rounded = false;  ///< the copy, to bfloat16
  std::uint16_t* half = nullptr;
  std::int8_t* codes = nullptr;
  float* scale = nullptr;
  std::int32_t* sums = nullptr;
  std::int64_t stride = 0;
  std::int64_t groups = 0;

  /// @param bf16_as_floats  of the kernels that take them
  void reserve(Arena& arena, ProductKind product, bool bf16_as_floats, std::int64_t group,
               std::int64_t rows, std::int64_t padded) {
    stride = spread_stride(padded, std::max<std::int64_t>(64, group));
    rounded = product == ProductKind::kBf16 && bf16_as_floats;
    if (product == ProductKind::kF32 || rounded) {
      arena.add(copy, rows * stride);
    } else if (product == ProductKind::kBf16) {
      arena.add(half, rows * stride);
    } else {
      groups = group > 0 ? stride / group : 1;
      arena.add(codes, rows * stride);
      arena.add(scale, rows);
      arena.add(sums, rows * groups);
    }
  }
  LeftRows rows(const std::int32_t* index) const {
    if (copy != nullptr) {
      return {reinterpret_cast<const char*>(copy), stride * 4, index, nullptr, nullptr, 0};
    }
    if (half != nullptr) {
      return {reinterpret_cast<const char*>(half), stride * 2, index, nullptr, nullptr, 0};
    }
    return {reinterpret_cast<const char*>(codes), stride, index, scale, sums, groups};
  }
};

/// What a bank's two products take on the left.
struct Operands {
  LeftBuffers tokens;
  LeftBuffers hidden;
  std::size_t tokens_of;  ///< the bank that holds the tokens in this form
};

/// Panels of experts, so cut that every thread gets several pieces of about the same work; a piece
/// stays within one expert.
struct UpPiece {
  std::int32_t bank;
  std::int32_t expert;
  std::int32_t begin;
  std::int32_t end;
};

struct Workspace::Buffers {
  Slab forward;
  Slab backward;
  Slab scratch;
  FfnTape recomputed;
  std::vector<ThreadScratch> threads;
  std::vector<BankView> views;
  std::vector<Operands> operands;
  std::vector<UpPiece> pieces;
  std::vector<std::int64_t> first_step;
};

/// @throws ArgumentError: no pool or workspace, or an instruction set that this machine lacks.
void check_execution(const Execution& execution);
/// @throws ArgumentError naming row and position of the first value that is NaN or infinite.
void check_finite(const Execution& execution, const char* name, const float* values,
                  std::int64_t rows, std::int64_t size);
/// @throws ArgumentError unless the plan's parts fit together, the experts and the tokens.
void check_plan(const RoutingPlan& plan, std::int64_t num_experts, std::int64_t num_tokens);

/// Rows in pieces that a thread takes at once: `convert(begin, end)`.
template <typename Convert>
void run_rows(ThreadPool& pool, std::int64_t rows, const Convert& convert) {
  constexpr std::int64_t kPiece = 32;
  pool.run((rows + kPiece - 1) / kPiece, [&](std::int64_t piece, int) {
    convert(piece * kPiece, std::min(rows, (piece + 1) * kPiece));
  });
}

/// Copies, rounds or quantizes rows into the buffers, in pieces for the pool.
void convert_rows(const FfnKernels& kernels, ThreadPool& pool, const LeftBuffers& to,
                  std::int64_t group, const float* from, std::int64_t stride, std::int64_t columns,
                  std::int64_t rows);

/// Every thread's own memory. @param panel_rows  steps of the longest panel of the backward pass
const std::vector<ThreadScratch>& thread_scratch(Workspace::Buffers& buffers, int threads,
                                                 std::int64_t panel_rows);

MatrixView view_of(const PanelLayout& layout, const FormatInfo& info);
void view_plan(BankView& view, const RoutingPlan& plan);
void view_shape(BankView& view, const FfnShape& shape);
/// Hidden values as a left operand, where they are written as one.
LeftRows hidden_rows(const BankView& view);

/// Zeros in the columns of a panel, of rows [count, columns].
void clear_panel(float* rows, std::int64_t count, std::int64_t columns, std::int64_t panel);

/// The two rounds of a forward pass over `buffers.views`.
void run_up(Workspace::Buffers& buffers, ThreadPool& pool);
void run_down(const std::vector<BankView>& views, float* output, ThreadPool& pool,
              const std::vector<ThreadScratch>& scratch);

/// The kernels that run a kind of products.
using KernelsOf = std::function<const FfnKernels&(ProductKind)>;
/// expert_ffn_forward() once everything is checked, with any kernels.
void forward_with(const std::vector<FfnBank>& banks, const float* tokens, float* output,
                  ThreadPool& pool, Workspace& workspace, const KernelsOf& kernels);

}  // namespace moekit::kernels
