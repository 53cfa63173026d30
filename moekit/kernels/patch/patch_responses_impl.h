// The kernels of patch_responses.h, written once with the compiler's vector types and compiled once
// per instruction set (see conv_maxpool_impl.h). Filters lie across the vector lanes, in blocks of
// one or two vectors packed [d][block]. The patches of a group of samples pass a block twice: tiles
// of patches give responses (accumulators: patches x vectors), and tiles of inputs give weight
// gradients (accumulators: inputs x vectors), which stay in registers over the whole group.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <cstring>
#include <utility>
#include <vector>

#include "moekit/kernels/patch/patch_responses.h"

namespace moekit::kernels {
namespace {

// With two vectors a tile of patches has 16 accumulators of 32 registers (8 of 16 with AVX2), one
// of inputs 20 (10); the rest are for filters or deltas and the broadcast value.
#if defined(__AVX512F__)
constexpr std::int64_t kWidth = 16;
constexpr int kPatchTile = 8;
constexpr int kInputTile = 10;
#else
constexpr std::int64_t kWidth = 8;
constexpr int kPatchTile = 4;
constexpr int kInputTile = 5;
#endif
// Patches of a group: with blocks of 32 filters their responses are 16 KiB.
constexpr std::int64_t kGroupPatches = 128;
using Floats = float __attribute__((vector_size(kWidth * sizeof(float))));

inline Floats load_floats(const float* from) {
  Floats v;
  std::memcpy(&v, from, sizeof(Floats));
  return v;
}

inline void store_floats(const Floats& v, float* to) { std::memcpy(to, &v, sizeof(Floats)); }

/// A block of filters side by side in `vectors` vectors.
template <int vectors>
struct Lanes {
  static constexpr std::int64_t kFilters = vectors * kWidth;
  Floats v[vectors];

  static Lanes load(const float* from) {
    Lanes lanes;
    for (int i = 0; i < vectors; ++i) lanes.v[i] = load_floats(from + i * kWidth);
    return lanes;
  }
  void store(float* to) const {
    for (int i = 0; i < vectors; ++i) store_floats(v[i], to + i * kWidth);
  }
};

/// Filters in blocks, [block][d][kFilters], and biases [block][kFilters]; filters beyond the last
/// are zero: their response is 0, and so is that of every activation here.
template <int vectors>
struct PackedFilters {
  static constexpr std::int64_t kFilters = Lanes<vectors>::kFilters;

  PackedFilters(const PatchShape& shape, const float* weight, const float* bias_)
      : total(shape.classes * shape.filters),
        blocks((total + kFilters - 1) / kFilters),
        dim(shape.dim),
        weights(static_cast<std::size_t>(blocks * dim * kFilters), 0.0F),
        bias(static_cast<std::size_t>(blocks * kFilters), 0.0F) {
    for (std::int64_t f = 0; f < total; ++f) {
      float* to = weights.data() + (f / kFilters) * dim * kFilters + f % kFilters;
      for (std::int64_t k = 0; k < dim; ++k) to[k * kFilters] = weight[f * dim + k];
      bias[static_cast<std::size_t>(f)] = bias_[f];
    }
  }
  const float* weights_of(std::int64_t block) const {
    return weights.data() + block * dim * kFilters;
  }
  const float* bias_of(std::int64_t block) const { return bias.data() + block * kFilters; }

  std::int64_t total;
  std::int64_t blocks;
  std::int64_t dim;
  std::vector<float> weights;
  std::vector<float> bias;
};

/// A run of samples that is worked on at once: where its patches lie.
class Group {
 public:
  Group(const PatchShape& shape, const float* samples, const std::int64_t* rows)
      : shape_(shape),
        samples_(samples),
        rows_(rows),
        size_(std::max<std::int64_t>(1, kGroupPatches / shape.patches)) {}

  std::int64_t size() const { return size_; }
  std::int64_t capacity() const { return size_ * shape_.patches; }
  std::int64_t patches() const { return static_cast<std::int64_t>(patches_.size()); }
  const float* const* pointers() const { return patches_.data(); }

  void set(std::int64_t begin, std::int64_t end) {
    patches_.clear();
    for (std::int64_t i = begin; i < end; ++i) {
      const std::int64_t row = rows_ != nullptr ? rows_[i] : i;
      const float* sample = samples_ + row * shape_.patches * shape_.dim;
      for (std::int64_t p = 0; p < shape_.patches; ++p) patches_.push_back(sample + p * shape_.dim);
    }
  }

 private:
  const PatchShape& shape_;
  const float* samples_;
  const std::int64_t* rows_;
  std::int64_t size_;
  std::vector<const float*> patches_;
};

template <Activation activation>
inline Floats act(const Floats& z) {
  if constexpr (activation == Activation::kCubic) return z * z * z;
  if constexpr (activation == Activation::kRelu) return z < 0 ? Floats{} : z;  // NaN stays NaN
  return z;
}

template <Activation activation>
inline Floats act_slope(const Floats& z) {
  if constexpr (activation == Activation::kCubic) return 3.0F * z * z;
  if constexpr (activation == Activation::kRelu) return z > 0 ? Floats{} + 1.0F : Floats{};
  return Floats{} + 1.0F;
}

/// responses[p] = w x_p + b, for `count` patches of one block of filters.
template <int count, int vectors>
inline void respond_tile(const float* const* patches, std::int64_t dim, const float* weights,
                         const float* bias, float* responses) {
  const float* x[count];
  Lanes<vectors> z[count];
  for (int p = 0; p < count; ++p) {
    x[p] = patches[p];
    z[p] = Lanes<vectors>::load(bias);
  }
  for (std::int64_t k = 0; k < dim; ++k) {
    const auto w = Lanes<vectors>::load(weights + k * Lanes<vectors>::kFilters);
    for (int p = 0; p < count; ++p) {
      const float value = x[p][k];
      for (int i = 0; i < vectors; ++i) z[p].v[i] += w.v[i] * value;
    }
  }
  for (int p = 0; p < count; ++p) z[p].store(responses + p * Lanes<vectors>::kFilters);
}

/// Responses [patches, kFilters] of all patches of the group to a block of filters.
template <int vectors>
void respond(const Group& group, const PackedFilters<vectors>& packed, std::int64_t block,
             float* responses) {
  const float* weights = packed.weights_of(block);
  const float* bias = packed.bias_of(block);
  std::int64_t p = 0;
  for (; p + kPatchTile <= group.patches(); p += kPatchTile) {
    respond_tile<kPatchTile, vectors>(group.pointers() + p, packed.dim, weights, bias,
                                      responses + p * packed.kFilters);
  }
  for (; p < group.patches(); ++p) {
    respond_tile<1, vectors>(group.pointers() + p, packed.dim, weights, bias,
                             responses + p * packed.kFilters);
  }
}

template <Activation activation, int vectors>
void forward_with(const PatchShape& shape, const float* samples, const std::int64_t* rows,
                  std::int64_t count, const float* weight, const float* bias, float* output) {
  using Block = Lanes<vectors>;
  const PackedFilters<vectors> packed(shape, weight, bias);
  Group group(shape, samples, rows);
  std::vector<float> responses(static_cast<std::size_t>(group.capacity() * Block::kFilters));
  std::fill(output, output + count * shape.classes, 0.0F);
  for (std::int64_t begin = 0; begin < count; begin += group.size()) {
    const std::int64_t end = std::min(begin + group.size(), count);
    group.set(begin, end);
    for (std::int64_t b = 0; b < packed.blocks; ++b) {
      respond(group, packed, b, responses.data());
      const std::int64_t first = b * Block::kFilters;
      const std::int64_t last = std::min(first + Block::kFilters, packed.total);
      for (std::int64_t i = begin; i < end; ++i) {
        Block sum{};
        for (std::int64_t p = 0; p < shape.patches; ++p) {
          const auto z =
              Block::load(responses.data() + ((i - begin) * shape.patches + p) * Block::kFilters);
          for (int v = 0; v < vectors; ++v) sum.v[v] += act<activation>(z.v[v]);
        }
        std::array<float, static_cast<std::size_t>(Block::kFilters)> of_filter;
        sum.store(of_filter.data());
        float* out = output + i * shape.classes;
        for (std::int64_t f = first; f < last;) {
          const std::int64_t c = f / shape.filters;
          const std::int64_t stop = std::min(last, (c + 1) * shape.filters);
          float total = 0;
          for (; f < stop; ++f) total += of_filter[static_cast<std::size_t>(f - first)];
          out[c] += total;
        }
      }
    }
  }
}

/// sums[k] += sum_p deltas[p] x_p[k] for `count` inputs k from `first` on.
template <int count, int vectors>
inline void gradient_tile(const Group& group, const float* deltas, std::int64_t first,
                          double* sums) {
  using Block = Lanes<vectors>;
  Block sum[count]{};
  const float* const* patches = group.pointers();
  for (std::int64_t p = 0; p < group.patches(); ++p) {
    const auto delta = Block::load(deltas + p * Block::kFilters);
    const float* x = patches[p] + first;
    for (int k = 0; k < count; ++k) {
      const float value = x[k];
      for (int v = 0; v < vectors; ++v) sum[k].v[v] += delta.v[v] * value;
    }
  }
  for (int k = 0; k < count; ++k) {
    std::array<float, static_cast<std::size_t>(Block::kFilters)> of_filter;
    sum[k].store(of_filter.data());
    double* to = sums + (first + k) * Block::kFilters;
    for (std::int64_t f = 0; f < Block::kFilters; ++f) {
      to[f] += static_cast<double>(of_filter[static_cast<std::size_t>(f)]);
    }
  }
}

template <Activation activation, int vectors>
void backward_with(const PatchShape& shape, const float* samples, const std::int64_t* rows,
                   std::int64_t count, const float* weight, const float* bias,
                   const float* grad_output, double* grad_weight, double* grad_bias) {
  using Block = Lanes<vectors>;
  const PackedFilters<vectors> packed(shape, weight, bias);
  Group group(shape, samples, rows);
  std::vector<float> deltas(static_cast<std::size_t>(group.capacity() * Block::kFilters));
  std::vector<double> weight_sums(packed.weights.size());
  for (std::int64_t begin = 0; begin < count; begin += group.size()) {
    const std::int64_t end = std::min(begin + group.size(), count);
    group.set(begin, end);
    for (std::int64_t b = 0; b < packed.blocks; ++b) {
      respond(group, packed, b, deltas.data());
      const std::int64_t first = b * Block::kFilters;
      const std::int64_t known = std::min(Block::kFilters, packed.total - first);
      Block bias_sum{};
      for (std::int64_t i = begin; i < end; ++i) {
        std::array<float, static_cast<std::size_t>(Block::kFilters)> upstream{};
        for (std::int64_t f = 0; f < known; ++f) {
          upstream[static_cast<std::size_t>(f)] =
              grad_output[i * shape.classes + (first + f) / shape.filters];
        }
        const auto g = Block::load(upstream.data());
        float* of_sample = deltas.data() + (i - begin) * shape.patches * Block::kFilters;
        for (std::int64_t p = 0; p < shape.patches; ++p) {
          auto z = Block::load(of_sample + p * Block::kFilters);
          for (int v = 0; v < vectors; ++v) {
            z.v[v] = act_slope<activation>(z.v[v]) * g.v[v];
            bias_sum.v[v] += z.v[v];
          }
          z.store(of_sample + p * Block::kFilters);
        }
      }
      for (std::int64_t f = 0; f < known; ++f) {
        grad_bias[first + f] += static_cast<double>(bias_sum.v[f / kWidth][f % kWidth]);
      }
      double* sums = weight_sums.data() + b * shape.dim * Block::kFilters;
      std::int64_t k = 0;
      for (; k + kInputTile <= shape.dim; k += kInputTile) {
        gradient_tile<kInputTile, vectors>(group, deltas.data(), k, sums);
      }
      for (; k < shape.dim; ++k) gradient_tile<1, vectors>(group, deltas.data(), k, sums);
    }
  }
  for (std::int64_t f = 0; f < packed.total; ++f) {
    const double* from = weight_sums.data() + (f / Block::kFilters) * shape.dim * Block::kFilters +
                         f % Block::kFilters;
    for (std::int64_t k = 0; k < shape.dim; ++k) {
      grad_weight[f * shape.dim + k] += from[k * Block::kFilters];
    }
  }
}

/// Calls `visit` with the activation and the vectors a block takes as compile-time constants: one
/// where a second would be padding.
template <typename Visit>
void with_constants(const PatchShape& shape, Visit&& visit) {
  const auto with_vectors = [&](auto activation) {
    const std::int64_t vectors = (shape.classes * shape.filters + kWidth - 1) / kWidth;
    if (vectors % 2 == 1) return visit(activation, std::integral_constant<int, 1>{});
    return visit(activation, std::integral_constant<int, 2>{});
  };
  switch (shape.activation) {
    case Activation::kIdentity:
      return with_vectors(std::integral_constant<Activation, Activation::kIdentity>{});
    case Activation::kRelu:
      return with_vectors(std::integral_constant<Activation, Activation::kRelu>{});
    case Activation::kCubic:
      return with_vectors(std::integral_constant<Activation, Activation::kCubic>{});
    default:  // refused before
      return;
  }
}

void responses_forward(const PatchShape& shape, const float* samples, const std::int64_t* rows,
                       std::int64_t count, const float* weight, const float* bias, float* output) {
  with_constants(shape, [&](auto activation, auto vectors) {
    forward_with<activation, vectors>(shape, samples, rows, count, weight, bias, output);
  });
}

void responses_backward(const PatchShape& shape, const float* samples, const std::int64_t* rows,
                        std::int64_t count, const float* weight, const float* bias,
                        const float* grad_output, double* grad_weight, double* grad_bias) {
  with_constants(shape, [&](auto activation, auto vectors) {
    backward_with<activation, vectors>(shape, samples, rows, count, weight, bias, grad_output,
                                       grad_weight, grad_bias);
  });
}

constexpr PatchKernels kPatchKernels{&responses_forward, &responses_backward};

}  // namespace
}  // namespace moekit::kernels
