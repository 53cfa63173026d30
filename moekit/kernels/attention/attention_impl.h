// The kernels of attention.h, written once with the compiler's vector types and compiled once per
// instruction set: attention_{avx512,avx2,generic}.cpp include this file and differ in their
// compiler flags alone.
#pragma once

#include <algorithm>
#include <cmath>

#include "moekit/kernels/attention/attention.h"
#include "moekit/kernels/common/vectors_impl.h"

namespace moekit::kernels {
namespace {

// A tile of 6 rows leaves registers for one row of the right operand, and takes the left one from
// memory as the multiply-add's broadcast operand.
struct AttentionVectors {
#if defined(__AVX512F__)
  static constexpr int kLanes = 16;
  static constexpr int kTileVectors = 4;
#elif defined(__AVX2__)
  static constexpr int kLanes = 8;
  static constexpr int kTileVectors = 2;
#else
  static constexpr int kLanes = 8;  // what eight become is left to the compiler
  static constexpr int kTileVectors = 1;
#endif
  using Float = float __attribute__((vector_size(kLanes * sizeof(float))));
  using Int = std::int32_t __attribute__((vector_size(kLanes * sizeof(std::int32_t))));
};
using Vectors = AttentionVectors;
using Vec = Vectors::Float;
constexpr std::int64_t kLanes = Vectors::kLanes;
constexpr int kTileRows = 6;

// A block of scores, 48 x 64, is 12 KB: with the keys' panel it stays in the first cache.
constexpr std::int64_t kQueryBlock = 8 * kTileRows;
constexpr std::int64_t kKeyBlock = 64;

// Scores of keys that a query does not see lie as far below the least running maximum as that lies
// below any true one, so that their exponentials are zero and no infinity meets another.
constexpr float kHidden = -3e38F;
constexpr float kLeast = -1e30F;

MOEKIT_INLINE std::int64_t padded(std::int64_t size) { return ceil_div(size, kLanes) * kLanes; }

/// A left operand [rows, steps] by its strides: a matrix, or one transposed.
struct Left {
  const float* data;
  std::int64_t row;
  std::int64_t step;
};

/// c [kRows, kVectors * kLanes] (+)= left [kRows, steps] b [steps, ...].
template <int kRows, int kVectors>
MOEKIT_INLINE void multiply_tile(std::int64_t steps, const Left& left, const float* b,
                                 std::int64_t b_step, float* c, std::int64_t c_row, bool add) {
  Vec sum[kRows][kVectors];
  each<kRows>([&](auto r) MOEKIT_LAMBDA {
    each<kVectors>([&](auto v) MOEKIT_LAMBDA {
      sum[r][v] = add ? load<Vec>(c + r * c_row + v * kLanes) : Vec{};
    });
  });
  const float* a = left.data;
  for (std::int64_t s = 0; s < steps; ++s, a += left.step, b += b_step) {
    Vec right[kVectors];
    each<kVectors>([&](auto v) MOEKIT_LAMBDA { right[v] = load<Vec>(b + v * kLanes); });
    each<kRows>([&](auto r) MOEKIT_LAMBDA {
      const Vec of_row = broadcast<Vectors>(a[r * left.row]);
      each<kVectors>([&](auto v) MOEKIT_LAMBDA { sum[r][v] += of_row * right[v]; });
    });
  }
  each<kRows>([&](auto r) MOEKIT_LAMBDA {
    each<kVectors>([&](auto v) MOEKIT_LAMBDA { store(c + r * c_row + v * kLanes, sum[r][v]); });
  });
}

template <int kRows>
MOEKIT_INLINE void multiply_rows(std::int64_t columns, std::int64_t steps, const Left& left,
                                 const float* b, std::int64_t b_step, float* c, std::int64_t c_row,
                                 bool add) {
  constexpr std::int64_t kWide = Vectors::kTileVectors * kLanes;
  std::int64_t n = 0;
  for (; n + kWide <= columns; n += kWide) {
    multiply_tile<kRows, Vectors::kTileVectors>(steps, left, b + n, b_step, c + n, c_row, add);
  }
  for (; n < columns; n += kLanes) {
    multiply_tile<kRows, 1>(steps, left, b + n, b_step, c + n, c_row, add);
  }
}

/// c [rows, columns] = or += left [rows, steps] b [steps, columns]; columns is a multiple of
/// kLanes.
void multiply(std::int64_t rows, std::int64_t columns, std::int64_t steps, Left left,
              const float* b, std::int64_t b_step, float* c, std::int64_t c_row, bool add) {
  for (; rows >= kTileRows; rows -= kTileRows) {
    multiply_rows<kTileRows>(columns, steps, left, b, b_step, c, c_row, add);
    left.data += kTileRows * left.row;
    c += kTileRows * c_row;
  }
  switch (rows) {
    case 5:
      return multiply_rows<5>(columns, steps, left, b, b_step, c, c_row, add);
    case 4:
      return multiply_rows<4>(columns, steps, left, b, b_step, c, c_row, add);
    case 3:
      return multiply_rows<3>(columns, steps, left, b, b_step, c, c_row, add);
    case 2:
      return multiply_rows<2>(columns, steps, left, b, b_step, c, c_row, add);
    case 1:
      return multiply_rows<1>(columns, steps, left, b, b_step, c, c_row, add);
    default:
      return;
  }
}

MOEKIT_INLINE float widened(float value) { return value; }
MOEKIT_INLINE float widened(std::uint16_t bf16) {
  const std::uint32_t bits = std::uint32_t{bf16} << 16;
  float value;
  __builtin_memcpy(&value, &bits, sizeof(value));
  return value;
}

/// One head of a sequence's rows, as they are: float, or bfloat16 as uint16.
template <typename Value>
struct HeadRows {
  const Value* data;
  std::int64_t stride;
  std::int64_t dim;

  const Value* row(std::int64_t t) const { return data + t * stride; }
};

/// Calls work(rows) with one head's rows of the type that they are.
template <typename Work>
MOEKIT_INLINE void with_head(const AttentionRows& rows, std::int64_t b, std::int64_t positions,
                             std::int64_t head, std::int64_t dim, const Work& work) {
  const std::int64_t at = b * positions * rows.stride + head * dim;
  if (rows.bf16) {
    work(HeadRows<std::uint16_t>{static_cast<const std::uint16_t*>(rows.data) + at, rows.stride,
                                 dim});
  } else {
    work(HeadRows<float>{static_cast<const float*>(rows.data) + at, rows.stride, dim});
  }
}

/// Rows one after the other, each filled up with zeros to whole vectors.
template <typename Value>
void pack_rows(const HeadRows<Value>& from, std::int64_t begin, std::int64_t end, float factor,
               float* to) {
  const std::int64_t width = padded(from.dim);
  for (std::int64_t t = begin; t < end; ++t, to += width) {
    const Value* row = from.row(t);
    for (std::int64_t i = 0; i < from.dim; ++i) to[i] = widened(row[i]) * factor;
    std::fill(to + from.dim, to + width, 0.0F);
  }
}

/// Blocks of kKeyBlock rows, each transposed to [dim, kKeyBlock]: columns of neighbours then lie in
/// one vector. Rows beyond the last are zeros.
template <typename Value>
void pack_panels(const HeadRows<Value>& from, std::int64_t count, float* to) {
  for (std::int64_t block = 0; block < count; block += kKeyBlock, to += from.dim * kKeyBlock) {
    const std::int64_t rows = min_of(kKeyBlock, count - block);
    std::int64_t r = 0;
    // A vector of rows at a time: its stores are whole, and its loads come from lines that stay.
    for (; r + kLanes <= rows; r += kLanes) {
      const Value* row[kLanes];
      for (std::int64_t l = 0; l < kLanes; ++l) row[l] = from.row(block + r + l);
      for (std::int64_t i = 0; i < from.dim; ++i) {
        Vec v;
        for (std::int64_t l = 0; l < kLanes; ++l) v[l] = widened(row[l][i]);
        store(to + i * kKeyBlock + r, v);
      }
    }
    for (; r < kKeyBlock; ++r) {
      for (std::int64_t i = 0; i < from.dim; ++i) {
        to[i * kKeyBlock + r] = r < rows ? widened(from.row(block + r)[i]) : 0.0F;
      }
    }
  }
}

/// Which keys some queries of a sequence see.
class Visible {
 public:
  /// @param first  of this sequence's queries, or null
  Visible(const AttentionShape& shape, const std::int32_t* first, std::int64_t begin,
          std::int64_t end)
      : first_(first),
        offset_(shape.keys - shape.queries),
        begin_(begin),
        last_of_all_(begin + offset_),
        end_(end + offset_) {
    least_ = first == nullptr ? 0 : *std::min_element(first + begin, first + end);
    most_ = first == nullptr ? 0 : *std::max_element(first + begin, first + end);
  }
  std::int64_t first_block() const { return min_of(least_, end_) / kKeyBlock; }
  std::int64_t end_block() const { return ceil_div(end_, kKeyBlock); }
  /// Of a block the keys that any of them sees, filled up to whole vectors.
  std::int64_t columns(std::int64_t block) const {
    return min_of(kKeyBlock, padded(end_ - block * kKeyBlock));
  }
  /// Whether all of them see all of a block.
  bool whole(std::int64_t block) const {
    return most_ <= block * kKeyBlock && (block + 1) * kKeyBlock - 1 <= last_of_all_;
  }
  /// Hides what row r of the block's scores must not see.
  void hide(std::int64_t block, std::int64_t r, float* scores) const {
    const std::int64_t start = block * kKeyBlock;
    const std::int64_t from = (first_ == nullptr ? 0 : first_[begin_ + r]) - start;
    const std::int64_t last = last_of_all_ + r - start;
    for (std::int64_t c = 0; c < min_of(from, kKeyBlock); ++c) scores[c] = kHidden;
    for (std::int64_t c = std::max<std::int64_t>(last + 1, 0); c < kKeyBlock; ++c) {
      scores[c] = kHidden;
    }
  }

 private:
  const std::int32_t* first_;
  std::int64_t offset_, begin_;
  std::int64_t last_of_all_;  ///< key that the first of them sees last, and so do all
  std::int64_t end_;          ///< beyond the last key that any sees
  std::int64_t least_ = 0, most_ = 0;
};

MOEKIT_INLINE float largest(const float* row, std::int64_t columns) {
  Vec most = load<Vec>(row);
  for (std::int64_t c = kLanes; c < columns; c += kLanes) {
    const Vec v = load<Vec>(row + c);
    most = most > v ? most : v;
  }
  float out = most[0];
  for (int l = 1; l < kLanes; ++l) out = std::max(out, most[l]);
  return out;
}

/// row = exp(row - shift). @return the sum
MOEKIT_INLINE float exponentials(float* row, std::int64_t columns, float shift) {
  Vec sum{};
  const Vec by = broadcast<Vectors>(shift);
  for (std::int64_t c = 0; c < columns; c += kLanes) {
    const Vec e = exp_of<Vectors>(load<Vec>(row + c) - by);
    store(row + c, e);
    sum += e;
  }
  return horizontal_sum<Vectors>(sum);
}

MOEKIT_INLINE float dot(const float* a, const float* b, std::int64_t width) {
  Vec sum{};
  for (std::int64_t c = 0; c < width; c += kLanes) sum += load<Vec>(a + c) * load<Vec>(b + c);
  return horizontal_sum<Vectors>(sum);
}

MOEKIT_INLINE void scale_row(float* row, std::int64_t width, float factor) {
  const Vec by = broadcast<Vectors>(factor);
  for (std::int64_t c = 0; c < width; c += kLanes) store(row + c, load<Vec>(row + c) * by);
}

/// Cuts a thread's memory into arrays that begin on cache lines.
class Cutter {
 public:
  explicit Cutter(float* memory) : memory_(memory) {}
  float* take(std::int64_t floats) {
    float* at = memory_ == nullptr ? nullptr : memory_ + used_;
    used_ += ceil_div(floats, 16) * 16;
    return at;
  }
  std::int64_t used() const { return used_; }

 private:
  float* memory_;
  std::int64_t used_ = 0;
};

struct ForwardMemory {
  float *key_panels, *value_rows, *queries, *scores, *sums;

  ForwardMemory(const AttentionShape& s, Cutter&& cutter) {
    const std::int64_t blocks = ceil_div(s.keys, kKeyBlock);
    key_panels = cutter.take(blocks * kKeyBlock * s.head_dim);
    value_rows = cutter.take(blocks * kKeyBlock * padded(s.value_dim));
    queries = cutter.take(kQueryBlock * padded(s.head_dim));
    scores = cutter.take(kQueryBlock * kKeyBlock);
    sums = cutter.take(kQueryBlock * padded(s.value_dim));
    floats = cutter.used();
  }
  std::int64_t floats;
};

std::int64_t forward_floats(const AttentionShape& shape) {
  return ForwardMemory(shape, Cutter(nullptr)).floats;
}

void forward(const AttentionShape& s, const AttentionInputs& inputs, std::int64_t b,
             std::int64_t kv_head, std::int64_t begin, std::int64_t end, float* output,
             float* normalizer, float* memory) {
  const ForwardMemory m(s, Cutter(memory));
  const std::int64_t group = s.heads / s.kv_heads;
  const std::int64_t key_width = padded(s.head_dim);
  const std::int64_t width = padded(s.value_dim);
  const std::int64_t seen = s.keys - s.queries + end;
  with_head(inputs.keys, b, s.keys, kv_head, s.head_dim,
            [&](const auto& keys) MOEKIT_LAMBDA { pack_panels(keys, seen, m.key_panels); });
  with_head(inputs.values, b, s.keys, kv_head, s.value_dim, [&](const auto& values) MOEKIT_LAMBDA {
    pack_rows(values, 0, seen, 1.0F, m.value_rows);
  });
  const std::int32_t* first = inputs.first == nullptr ? nullptr : inputs.first + b * s.queries;
  for (std::int64_t h = kv_head * group; h < (kv_head + 1) * group; ++h) {
    for (std::int64_t i = begin; i < end; i += kQueryBlock) {
      const std::int64_t rows = min_of(kQueryBlock, end - i);
      const Visible visible(s, first, i, i + rows);
      with_head(inputs.queries, b, s.queries, h, s.head_dim,
                [&](const auto& queries)
                    MOEKIT_LAMBDA { pack_rows(queries, i, i + rows, s.scale, m.queries); });
      float most[kQueryBlock];
      float total[kQueryBlock] = {};
      std::fill_n(most, rows, kLeast);
      std::fill_n(m.sums, rows * width, 0.0F);
      for (std::int64_t block = visible.first_block(); block < visible.end_block(); ++block) {
        const std::int64_t columns = visible.columns(block);
        multiply(rows, columns, s.head_dim, {m.queries, key_width, 1},
                 m.key_panels + block * kKeyBlock * s.head_dim, kKeyBlock, m.scores, kKeyBlock,
                 /*add=*/false);
        const bool whole = visible.whole(block);
        for (std::int64_t r = 0; r < rows; ++r) {
          float* row = m.scores + r * kKeyBlock;
          if (!whole) visible.hide(block, r, row);
          const float before = most[r];
          most[r] = std::max(before, largest(row, columns));
          if (most[r] != before) {
            const float factor = std::exp(before - most[r]);
            total[r] *= factor;
            scale_row(m.sums + r * width, width, factor);
          }
          total[r] += exponentials(row, columns, most[r]);
        }
        multiply(rows, width, min_of(columns, seen - block * kKeyBlock), {m.scores, kKeyBlock, 1},
                 m.value_rows + block * kKeyBlock * width, width, m.sums, width, /*add=*/true);
      }
      for (std::int64_t r = 0; r < rows; ++r) {
        const bool none = total[r] == 0;  // sees no key
        const float factor = none ? 0.0F : 1.0F / total[r];
        float* to = output + ((b * s.queries + i + r) * s.heads + h) * s.value_dim;
        for (std::int64_t c = 0; c < s.value_dim; ++c) to[c] = m.sums[r * width + c] * factor;
        if (normalizer == nullptr) continue;
        // So large that all exponentials of the backward pass are zero.
        normalizer[(b * s.heads + h) * s.queries + i + r] =
            none ? -kLeast : most[r] + std::log(total[r]);
      }
    }
  }
}

struct BackwardMemory {
  float *key_panels, *value_panels, *key_rows, *grad_keys, *grad_values;
  float *queries, *grad_rows, *outputs, *grad_queries, *probs, *grad_probs;

  BackwardMemory(const AttentionShape& s, Cutter&& cutter) {
    const std::int64_t keys = ceil_div(s.keys, kKeyBlock) * kKeyBlock;
    const std::int64_t width = padded(s.head_dim);
    const std::int64_t value_width = padded(s.value_dim);
    key_panels = cutter.take(keys * s.head_dim);
    value_panels = cutter.take(keys * s.value_dim);
    key_rows = cutter.take(keys * width);
    grad_keys = cutter.take(keys * width);
    grad_values = cutter.take(keys * value_width);
    queries = cutter.take(kQueryBlock * width);
    grad_rows = cutter.take(kQueryBlock * value_width);
    outputs = cutter.take(kQueryBlock * value_width);
    grad_queries = cutter.take(kQueryBlock * width);
    probs = cutter.take(kQueryBlock * kKeyBlock);
    grad_probs = cutter.take(kQueryBlock * kKeyBlock);
    floats = cutter.used();
  }
  std::int64_t floats;
};

std::int64_t backward_floats(const AttentionShape& shape) {
  return BackwardMemory(shape, Cutter(nullptr)).floats;
}

/// grad_probs = probs * (grad_probs - mean): through a row's softmax.
MOEKIT_INLINE void through_softmax(const float* probs, float* grad_probs, std::int64_t columns,
                                   float mean) {
  const Vec by = broadcast<Vectors>(mean);
  for (std::int64_t c = 0; c < columns; c += kLanes) {
    store(grad_probs + c, load<Vec>(probs + c) * (load<Vec>(grad_probs + c) - by));
  }
}

void store_rows(const float* from, std::int64_t width, std::int64_t rows, std::int64_t dim,
                float factor, float* to, std::int64_t stride) {
  for (std::int64_t r = 0; r < rows; ++r) {
    for (std::int64_t c = 0; c < dim; ++c) to[r * stride + c] = from[r * width + c] * factor;
  }
}

void backward(const AttentionShape& s, const AttentionInputs& inputs, std::int64_t b,
              std::int64_t kv_head, const float* output, const float* normalizer,
              const float* grad_output, const AttentionGradients& gradients, float* memory) {
  const BackwardMemory m(s, Cutter(memory));
  const std::int64_t group = s.heads / s.kv_heads;
  const std::int64_t width = padded(s.head_dim);
  const std::int64_t value_width = padded(s.value_dim);
  with_head(inputs.keys, b, s.keys, kv_head, s.head_dim, [&](const auto& keys) MOEKIT_LAMBDA {
    pack_panels(keys, s.keys, m.key_panels);
    pack_rows(keys, 0, s.keys, 1.0F, m.key_rows);
  });
  with_head(inputs.values, b, s.keys, kv_head, s.value_dim,
            [&](const auto& values) MOEKIT_LAMBDA { pack_panels(values, s.keys, m.value_panels); });
  std::fill_n(m.grad_keys, s.keys * width, 0.0F);
  std::fill_n(m.grad_values, s.keys * value_width, 0.0F);
  const std::int32_t* first = inputs.first == nullptr ? nullptr : inputs.first + b * s.queries;
  for (std::int64_t h = kv_head * group; h < (kv_head + 1) * group; ++h) {
    const std::int64_t value_stride = s.heads * s.value_dim;
    const HeadRows<float> grads{grad_output + b * s.queries * value_stride + h * s.value_dim,
                                value_stride, s.value_dim};
    const HeadRows<float> outputs{output + b * s.queries * value_stride + h * s.value_dim,
                                  value_stride, s.value_dim};
    const float* normalizers = normalizer + (b * s.heads + h) * s.queries;
    for (std::int64_t i = 0; i < s.queries; i += kQueryBlock) {
      const std::int64_t rows = min_of(kQueryBlock, s.queries - i);
      const Visible visible(s, first, i, i + rows);
      with_head(inputs.queries, b, s.queries, h, s.head_dim,
                [&](const auto& queries)
                    MOEKIT_LAMBDA { pack_rows(queries, i, i + rows, s.scale, m.queries); });
      pack_rows(grads, i, i + rows, 1.0F, m.grad_rows);
      pack_rows(outputs, i, i + rows, 1.0F, m.outputs);
      float mean[kQueryBlock];  // of a row's gradients, weighted by its probabilities
      for (std::int64_t r = 0; r < rows; ++r) {
        mean[r] = dot(m.grad_rows + r * value_width, m.outputs + r * value_width, value_width);
      }
      std::fill_n(m.grad_queries, rows * width, 0.0F);
      for (std::int64_t block = visible.first_block(); block < visible.end_block(); ++block) {
        const std::int64_t start = block * kKeyBlock;
        const std::int64_t columns = visible.columns(block);
        const std::int64_t count = min_of(columns, s.keys - start);
        multiply(rows, columns, s.head_dim, {m.queries, width, 1},
                 m.key_panels + start * s.head_dim, kKeyBlock, m.probs, kKeyBlock, false);
        multiply(rows, columns, s.value_dim, {m.grad_rows, value_width, 1},
                 m.value_panels + start * s.value_dim, kKeyBlock, m.grad_probs, kKeyBlock, false);
        const bool whole = visible.whole(block);
        for (std::int64_t r = 0; r < rows; ++r) {
          float* row = m.probs + r * kKeyBlock;
          if (!whole) visible.hide(block, r, row);
          exponentials(row, columns, normalizers[i + r]);
          through_softmax(row, m.grad_probs + r * kKeyBlock, columns, mean[r]);
        }
        multiply(count, value_width, rows, {m.probs, 1, kKeyBlock}, m.grad_rows, value_width,
                 m.grad_values + start * value_width, value_width, true);
        multiply(count, width, rows, {m.grad_probs, 1, kKeyBlock}, m.queries, width,
                 m.grad_keys + start * width, width, true);
        multiply(rows, width, count, {m.grad_probs, kKeyBlock, 1}, m.key_rows + start * width,
                 width, m.grad_queries, width, true);
      }
      store_rows(m.grad_queries, width, rows, s.head_dim, s.scale,
                 gradients.queries + ((b * s.queries + i) * s.heads + h) * s.head_dim,
                 s.heads * s.head_dim);
    }
  }
  // The queries that came in were scaled already.
  store_rows(m.grad_keys, width, s.keys, s.head_dim, 1.0F,
             gradients.keys + (b * s.keys * s.kv_heads + kv_head) * s.head_dim,
             s.kv_heads * s.head_dim);
  store_rows(m.grad_values, value_width, s.keys, s.value_dim, 1.0F,
             gradients.values + (b * s.keys * s.kv_heads + kv_head) * s.value_dim,
             s.kv_heads * s.value_dim);
}

constexpr AttentionKernels kAttentionKernels{&forward_floats, &backward_floats, &forward,
                                             &backward};

}  // namespace
}  // namespace moekit::kernels
