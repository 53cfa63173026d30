#pragma once

#include <cstdint>

#include "moekit/kernels/common/format_paths.h"
#include "moekit/kernels/common/slab.h"
#include "moekit/kernels/common/thread_pool.h"

/// Causal softmax attention on plain memory, without a matrix of all queries by all keys: keys come
/// in blocks, and a row's softmax is scaled anew where a block brings a larger score.
/// Source: Milakov, Gimelshein 2018, arXiv:1805.02867, alg. 3 (the running softmax); Dao, Fu,
/// Ermon, Rudra, Ré 2022, arXiv:2205.14135, alg. 1 and 4 (blocks, and the backward pass from the
/// rows' normalisers).
namespace moekit::kernels {

struct AttentionShape {
  std::int64_t batch;      ///< B
  std::int64_t queries;    ///< Tq: the last ones of the keys' positions
  std::int64_t keys;       ///< Tk >= Tq
  std::int64_t heads;      ///< H, a multiple of
  std::int64_t kv_heads;   ///< Hk: query head h reads key head h / (H / Hk)
  std::int64_t head_dim;   ///< d of queries and keys
  std::int64_t value_dim;  ///< dv
  float scale;             ///< of the scores, commonly 1 / sqrt(d)
};

/// Rows of an operand [B, T, heads, dim]: `stride` values from one position to the next, heads and
/// their dim contiguous. They are float32, or bfloat16, which becomes float32 where it is copied
/// into panels: all arithmetic is float32.
struct AttentionRows {
  const void* data;
  std::int64_t stride;
  bool bf16 = false;
};

struct AttentionInputs {
  AttentionRows queries;
  AttentionRows keys;
  AttentionRows values;
  /// [B, Tq] the first position each query sees, of those up to its own; null: 0. One beyond its
  /// own makes a query see none, and its output zero. Says where a document begins, how wide a
  /// window is, which positions are padding.
  const std::int32_t* first = nullptr;
};

/// @param output      [B, Tq, H, dv]
/// @param normalizer  [B, H, Tq], log of the sum of a row's exponentials, for the backward pass;
///                    may be null
/// @param memory      grows to what the largest call needs
/// @throws ArgumentError when sizes do not fit or a first position is negative.
/// The numbers are the same for any number of threads.
void attention_forward(const AttentionShape& shape, const AttentionInputs& inputs, float* output,
                       float* normalizer, ThreadPool& pool, Slab& memory, Isa isa = default_isa());

/// Where gradients go, all of them overwritten: [B, Tq, H, d], [B, Tk, Hk, d], [B, Tk, Hk, dv].
struct AttentionGradients {
  float* queries;
  float* keys;
  float* values;
};

/// Gradients of sum(grad_output * output). @param output, normalizer  of the forward pass
void attention_backward(const AttentionShape& shape, const AttentionInputs& inputs,
                        const float* output, const float* normalizer, const float* grad_output,
                        const AttentionGradients& gradients, ThreadPool& pool, Slab& memory,
                        Isa isa = default_isa());

/// The form of an instruction set: the work of one piece, in memory of one thread.
struct AttentionKernels {
  std::int64_t (*forward_floats)(const AttentionShape&);  ///< memory of a thread
  std::int64_t (*backward_floats)(const AttentionShape&);
  /// Queries `begin` .. `end` of the query heads of one key head.
  void (*forward)(const AttentionShape&, const AttentionInputs&, std::int64_t b,
                  std::int64_t kv_head, std::int64_t begin, std::int64_t end, float* output,
                  float* normalizer, float* memory);
  void (*backward)(const AttentionShape&, const AttentionInputs&, std::int64_t b,
                   std::int64_t kv_head, const float* output, const float* normalizer,
                   const float* grad_output, const AttentionGradients&, float* memory);
};
const AttentionKernels& attention_kernels(Isa isa);

}  // namespace moekit::kernels
