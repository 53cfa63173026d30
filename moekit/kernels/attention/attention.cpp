#include "moekit/kernels/attention/attention.h"

#include <algorithm>

#include "moekit/core/error.h"

namespace moekit::kernels {

const AttentionKernels* attention_avx512();
const AttentionKernels* attention_avx2();
const AttentionKernels* attention_generic();

const AttentionKernels& attention_kernels(Isa isa) {
  return choose_form(isa, attention_avx512(), attention_avx2(), attention_generic());
}

namespace {

// Queries of one piece at least: keys are packed once a piece.
constexpr std::int64_t kLeastQueries = 384;

void check(const AttentionShape& s, const AttentionInputs& inputs) {
  MOEKIT_CHECK(s.batch >= 0 && s.queries >= 0 && s.keys >= s.queries && s.kv_heads >= 1 &&
                   s.heads >= 1 && s.heads % s.kv_heads == 0 && s.head_dim >= 1 && s.value_dim >= 1,
               "attention: sizes do not fit: ", s.batch, " x ", s.queries, " queries of ", s.keys,
               " keys, ", s.heads, " heads on ", s.kv_heads, ", of ", s.head_dim, " and ",
               s.value_dim);
  if (inputs.first == nullptr) return;
  for (std::int64_t i = 0; i < s.batch * s.queries; ++i) {
    MOEKIT_CHECK(inputs.first[i] >= 0, "attention: query ", i,
                 " sees from a negative position on: ", inputs.first[i]);
  }
}

/// Memory for each thread, on lines of its own.
float* memory_of(Slab& memory, std::int64_t floats, int threads) {
  memory.reserve(static_cast<std::size_t>(floats) * sizeof(float) *
                 static_cast<std::size_t>(threads));
  return reinterpret_cast<float*>(memory.data());
}

}  // namespace

void attention_forward(const AttentionShape& shape, const AttentionInputs& inputs, float* output,
                       float* normalizer, ThreadPool& pool, Slab& memory, Isa isa) {
  check(shape, inputs);
  if (shape.batch == 0 || shape.queries == 0) return;
  const auto& kernels = attention_kernels(isa);
  const std::int64_t floats = kernels.forward_floats(shape);
  float* all = memory_of(memory, floats, pool.num_threads());
  const std::int64_t items = shape.batch * shape.kv_heads;
  // A few long sequences are cut, so that every thread has something to do.
  const std::int64_t most = std::max<std::int64_t>(1, shape.queries / kLeastQueries);
  const std::int64_t wanted = (std::int64_t{4} * pool.num_threads() + items - 1) / items;
  const std::int64_t cuts = pool.num_threads() == 1 ? 1 : std::min(most, wanted);
  pool.run(items * cuts, [&](std::int64_t piece, int thread) {
    // The last queries see the most keys: they come first.
    const std::int64_t cut = cuts - 1 - piece / items;
    const std::int64_t item = piece % items;
    kernels.forward(shape, inputs, item / shape.kv_heads, item % shape.kv_heads,
                    shape.queries * cut / cuts, shape.queries * (cut + 1) / cuts, output,
                    normalizer, all + thread * floats);
  });
}

void attention_backward(const AttentionShape& shape, const AttentionInputs& inputs,
                        const float* output, const float* normalizer, const float* grad_output,
                        const AttentionGradients& gradients, ThreadPool& pool, Slab& memory,
                        Isa isa) {
  check(shape, inputs);
  if (shape.batch == 0 || shape.keys == 0) return;
  const auto& kernels = attention_kernels(isa);
  const std::int64_t floats = kernels.backward_floats(shape);
  float* all = memory_of(memory, floats, pool.num_threads());
  pool.run(shape.batch * shape.kv_heads, [&](std::int64_t item, int thread) {
    kernels.backward(shape, inputs, item / shape.kv_heads, item % shape.kv_heads, output,
                     normalizer, grad_output, gradients, all + thread * floats);
  });
}

}  // namespace moekit::kernels
