// The kernels of patch_responses.h, written once with the compiler's vector types and compiled once
// per instruction set (see conv_maxpool_impl.h). Filters lie across the vector lanes: a tile is
// four patches by two vectors of filters, 8 accumulators; blocks of filters are packed [d][16], so
// that their 3 KiB stay in the first-level cache while 64 samples pass.
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <vector>

#include "moekit/kernels/patch_responses.h"

namespace moekit::kernels {
namespace {

constexpr std::int64_t kWidth = 8;
constexpr std::int64_t kBlock = 2 * kWidth;  // filters
constexpr std::int64_t kTile = 4;            // patches
constexpr std::int64_t kSamples = 64;
using Floats = float __attribute__((vector_size(kWidth * sizeof(float))));

/// A tile of responses or their gradients.
struct Tile {
  Floats low[kTile];
  Floats high[kTile];
};

inline Floats load_floats(const float* from) {
  Floats v;
  std::memcpy(&v, from, sizeof(Floats));
  return v;
}

inline void store_floats(const Floats& v, float* to) { std::memcpy(to, &v, sizeof(Floats)); }

/// Filters in blocks of 16, [block][d][16], and biases [block][16]; rows beyond the last are zero:
/// their response is 0, and so is that of every activation here.
struct PackedFilters {
  PackedFilters(const PatchShape& shape, const float* weight, const float* bias_)
      : total(shape.classes * shape.filters),
        blocks((total + kBlock - 1) / kBlock),
        weights(static_cast<std::size_t>(blocks * shape.dim * kBlock), 0.0F),
        bias(static_cast<std::size_t>(blocks * kBlock), 0.0F) {
    for (std::int64_t f = 0; f < total; ++f) {
      float* to = weights.data() + (f / kBlock) * shape.dim * kBlock + f % kBlock;
      for (std::int64_t k = 0; k < shape.dim; ++k) to[k * kBlock] = weight[f * shape.dim + k];
      bias[static_cast<std::size_t>(f)] = bias_[f];
    }
  }
  std::int64_t total;
  std::int64_t blocks;
  std::vector<float> weights;
  std::vector<float> bias;
};

/// z = w x + b for `patches` (1..4) rows of x.
template <int patches>
inline void filter_tile(const float* x, std::int64_t dim, const float* weights, const float* bias,
                        Tile& z) {
  for (int p = 0; p < patches; ++p) {
    z.low[p] = load_floats(bias);
    z.high[p] = load_floats(bias + kWidth);
  }
  for (std::int64_t k = 0; k < dim; ++k) {
    const Floats low = load_floats(weights + k * kBlock);
    const Floats high = load_floats(weights + k * kBlock + kWidth);
    for (int p = 0; p < patches; ++p) {
      const float value = x[p * dim + k];
      z.low[p] += low * value;
      z.high[p] += high * value;
    }
  }
}

template <PatchActivation activation>
inline Floats act(const Floats& z) {
  if constexpr (activation == PatchActivation::kCubic) return z * z * z;
  if constexpr (activation == PatchActivation::kRelu) return z > 0 ? z : Floats{};
  return z;
}

template <PatchActivation activation>
inline Floats act_slope(const Floats& z) {
  if constexpr (activation == PatchActivation::kCubic) return 3.0F * z * z;
  if constexpr (activation == PatchActivation::kRelu) return z > 0 ? Floats{} + 1.0F : Floats{};
  return Floats{} + 1.0F;
}

/// Runs `visit` over the patches of a sample, four at a time and the rest at once; it gets the
/// number of patches as a compile-time constant.
template <typename Visit>
inline void for_tiles(const float* sample, const PatchShape& shape, Visit&& visit) {
  std::int64_t p = 0;
  for (; p + kTile <= shape.patches; p += kTile) {
    visit(std::integral_constant<int, 4>{}, sample + p * shape.dim);
  }
  const float* rest = sample + p * shape.dim;
  switch (shape.patches - p) {
    case 1:
      return visit(std::integral_constant<int, 1>{}, rest);
    case 2:
      return visit(std::integral_constant<int, 2>{}, rest);
    case 3:
      return visit(std::integral_constant<int, 3>{}, rest);
    default:
      return;
  }
}

inline const float* sample_at(const PatchShape& shape, const float* samples,
                              const std::int64_t* rows, std::int64_t i) {
  return samples + (rows != nullptr ? rows[i] : i) * shape.patches * shape.dim;
}

template <PatchActivation activation>
void forward_with(const PatchShape& shape, const float* samples, const std::int64_t* rows,
                  std::int64_t count, const float* weight, const float* bias, float* output) {
  const PackedFilters packed(shape, weight, bias);
  std::vector<float> sums(static_cast<std::size_t>(kSamples * packed.blocks * kBlock));
  for (std::int64_t begin = 0; begin < count; begin += kSamples) {
    const std::int64_t end = std::min(begin + kSamples, count);
    for (std::int64_t b = 0; b < packed.blocks; ++b) {
      const float* weights = packed.weights.data() + b * shape.dim * kBlock;
      const float* biases = packed.bias.data() + b * kBlock;
      for (std::int64_t i = begin; i < end; ++i) {
        Floats low{};
        Floats high{};
        for_tiles(sample_at(shape, samples, rows, i), shape, [&](auto patches, const float* x) {
          Tile z;
          filter_tile<patches>(x, shape.dim, weights, biases, z);
          for (int p = 0; p < patches; ++p) {
            low += act<activation>(z.low[p]);
            high += act<activation>(z.high[p]);
          }
        });
        float* sum = sums.data() + ((i - begin) * packed.blocks + b) * kBlock;
        store_floats(low, sum);
        store_floats(high, sum + kWidth);
      }
    }
    for (std::int64_t i = begin; i < end; ++i) {
      const float* sum = sums.data() + (i - begin) * packed.blocks * kBlock;
      for (std::int64_t c = 0; c < shape.classes; ++c) {
        float total = 0;
        for (std::int64_t j = 0; j < shape.filters; ++j) total += sum[c * shape.filters + j];
        output[i * shape.classes + c] = total;
      }
    }
  }
}

template <PatchActivation activation>
void backward_with(const PatchShape& shape, const float* samples, const std::int64_t* rows,
                   std::int64_t count, const float* weight, const float* bias,
                   const float* grad_output, double* grad_weight, double* grad_bias) {
  const PackedFilters packed(shape, weight, bias);
  const auto block_floats = static_cast<std::size_t>(shape.dim * kBlock);
  std::vector<float> of_weights(block_floats);
  std::vector<float> of_response(static_cast<std::size_t>(kSamples * kBlock));
  for (std::int64_t begin = 0; begin < count; begin += kSamples) {
    const std::int64_t end = std::min(begin + kSamples, count);
    for (std::int64_t b = 0; b < packed.blocks; ++b) {
      const float* weights = packed.weights.data() + b * shape.dim * kBlock;
      const float* biases = packed.bias.data() + b * kBlock;
      std::fill(of_weights.begin(), of_weights.end(), 0.0F);
      Floats bias_low{};
      Floats bias_high{};
      const std::int64_t known = std::min(kBlock, packed.total - b * kBlock);
      for (std::int64_t i = begin; i < end; ++i) {
        float* g = of_response.data() + (i - begin) * kBlock;
        for (std::int64_t f = 0; f < kBlock; ++f) {
          const std::int64_t c = (b * kBlock + f) / shape.filters;
          g[f] = f < known ? grad_output[i * shape.classes + c] : 0.0F;
        }
      }
      for (std::int64_t i = begin; i < end; ++i) {
        const Floats g_low = load_floats(of_response.data() + (i - begin) * kBlock);
        const Floats g_high = load_floats(of_response.data() + (i - begin) * kBlock + kWidth);
        for_tiles(sample_at(shape, samples, rows, i), shape, [&](auto patches, const float* x) {
          Tile z;
          filter_tile<patches>(x, shape.dim, weights, biases, z);
          for (int p = 0; p < patches; ++p) {
            z.low[p] = act_slope<activation>(z.low[p]) * g_low;
            z.high[p] = act_slope<activation>(z.high[p]) * g_high;
            bias_low += z.low[p];
            bias_high += z.high[p];
          }
          for (std::int64_t k = 0; k < shape.dim; ++k) {
            float* to = of_weights.data() + k * kBlock;
            Floats low = load_floats(to);
            Floats high = load_floats(to + kWidth);
            for (int p = 0; p < patches; ++p) {
              const float value = x[p * shape.dim + k];
              low += z.low[p] * value;
              high += z.high[p] * value;
            }
            store_floats(low, to);
            store_floats(high, to + kWidth);
          }
        });
      }
      for (std::int64_t f = 0; f < known; ++f) {
        double* to = grad_weight + (b * kBlock + f) * shape.dim;
        for (std::int64_t k = 0; k < shape.dim; ++k) {
          to[k] += static_cast<double>(of_weights[static_cast<std::size_t>(k * kBlock + f)]);
        }
        const Floats& half = f < kWidth ? bias_low : bias_high;
        grad_bias[b * kBlock + f] += static_cast<double>(half[f % kWidth]);
      }
    }
  }
}

void responses_forward(const PatchShape& shape, const float* samples, const std::int64_t* rows,
                       std::int64_t count, const float* weight, const float* bias, float* output) {
  switch (shape.activation) {
    case PatchActivation::kIdentity:
      return forward_with<PatchActivation::kIdentity>(shape, samples, rows, count, weight, bias,
                                                      output);
    case PatchActivation::kRelu:
      return forward_with<PatchActivation::kRelu>(shape, samples, rows, count, weight, bias,
                                                  output);
    case PatchActivation::kCubic:
      return forward_with<PatchActivation::kCubic>(shape, samples, rows, count, weight, bias,
                                                   output);
  }
}

void responses_backward(const PatchShape& shape, const float* samples, const std::int64_t* rows,
                        std::int64_t count, const float* weight, const float* bias,
                        const float* grad_output, double* grad_weight, double* grad_bias) {
  switch (shape.activation) {
    case PatchActivation::kIdentity:
      return backward_with<PatchActivation::kIdentity>(shape, samples, rows, count, weight, bias,
                                                       grad_output, grad_weight, grad_bias);
    case PatchActivation::kRelu:
      return backward_with<PatchActivation::kRelu>(shape, samples, rows, count, weight, bias,
                                                   grad_output, grad_weight, grad_bias);
    case PatchActivation::kCubic:
      return backward_with<PatchActivation::kCubic>(shape, samples, rows, count, weight, bias,
                                                    grad_output, grad_weight, grad_bias);
  }
}

}  // namespace
}  // namespace moekit::kernels
