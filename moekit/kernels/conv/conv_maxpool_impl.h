// The kernels of conv_maxpool.h, written once with the compiler's vector types and compiled once
// per instruction set: conv_maxpool_{avx512,avx2,generic}.cpp include this file and differ in
// their compiler flags alone. Everything is in an unnamed namespace, so that no code
// compiled for AVX2 can be linked into the generic path.
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <vector>

#if defined(__AVX2__)
#include <immintrin.h>
#endif

#include "moekit/kernels/conv/conv_maxpool.h"

namespace moekit::kernels {
namespace {

// Floats of a register; the generic form leaves it to the compiler what eight become.
#if defined(__AVX512F__)
constexpr std::int64_t kLanes = 16;
#else
constexpr std::int64_t kLanes = 8;
#endif
using Vec = float __attribute__((vector_size(kLanes * sizeof(float))));
using Mask = std::int32_t __attribute__((vector_size(kLanes * sizeof(std::int32_t))));
using Bytes = std::uint8_t __attribute__((vector_size(kLanes)));
constexpr std::uint8_t kNoSource = 4;  // the window has 0..3

inline void load(const float* from, Vec& to) { std::memcpy(&to, from, sizeof(Vec)); }

inline float horizontal_sum(const Vec& v) {
  float sum = 0;
  for (std::int64_t l = 0; l < kLanes; ++l) sum += v[l];
  return sum;
}

/// Some images with their even and odd columns apart, so that the four convolution results of a
/// pool window, and the taps they need, are contiguous over windows: column 2j + c of a row is (c %
/// 2 ? odd : even)[j + c / 2].
class SplitImages {
 public:
  SplitImages(std::int64_t count, std::int64_t height, std::int64_t width)
      : height_(height),
        width_(width),
        // Reads go to j + 1 of the last, partly filled vector.
        stride_((width / 2 + kLanes) / kLanes * kLanes + kLanes),
        columns_(static_cast<std::size_t>(2 * count * height * stride_), 0.0F) {}

  void fill(std::int64_t n, const float* image) {
    for (std::int64_t r = 0; r < height_; ++r) {
      float* even = columns_.data() + 2 * (n * height_ + r) * stride_;
      float* odd = even + stride_;
      const float* row = image + r * width_;
      for (std::int64_t j = 0; j < width_ / 2; ++j) {
        even[j] = row[2 * j];
        odd[j] = row[2 * j + 1];
      }
      if (width_ % 2 == 1) even[width_ / 2] = row[width_ - 1];
    }
  }

  /// Lanes j .. j + kLanes - 1 of column offset c (0..3) in row r of image n.
  void taps(std::int64_t n, std::int64_t r, std::int64_t c, std::int64_t j, Vec& to) const {
    load(columns_.data() + (2 * (n * height_ + r) + c % 2) * stride_ + j + c / 2, to);
  }

 private:
  std::int64_t height_;
  std::int64_t width_;
  std::int64_t stride_;
  std::vector<float> columns_;
};

/// A row of `columns` windows in vectors. The last one reaches back over lanes that were done
/// before, so that all are full; a row shorter than a vector is one with `filled` lanes.
template <typename Visit>
inline void for_vectors(std::int64_t columns, Visit&& visit) {
  std::int64_t done = 0;
  while (done < columns) {
    const std::int64_t at = columns < kLanes ? 0 : std::min(done, columns - kLanes);
    visit(at, done - at);
    done = at + kLanes;
  }
}

/// Bytes to numbers and back; the compiler would do it lane by lane.
#if defined(__AVX512F__)
inline Mask widen(const Bytes& bytes) {
  return reinterpret_cast<Mask>(_mm512_cvtepu8_epi32(reinterpret_cast<__m128i>(bytes)));
}
inline Bytes narrow(const Mask& numbers) {
  return reinterpret_cast<Bytes>(_mm512_cvtepi32_epi8(reinterpret_cast<__m512i>(numbers)));
}
#elif defined(__AVX2__)
inline Mask widen(const Bytes& bytes) {
  std::int64_t all;
  std::memcpy(&all, &bytes, sizeof(all));
  return reinterpret_cast<Mask>(_mm256_cvtepu8_epi32(_mm_cvtsi64_si128(all)));
}
inline Bytes narrow(const Mask& numbers) {
  const auto whole = reinterpret_cast<__m256i>(numbers);
  const __m128i words =
      _mm_packs_epi32(_mm256_castsi256_si128(whole), _mm256_extracti128_si256(whole, 1));
  const std::int64_t all = _mm_cvtsi128_si64(_mm_packus_epi16(words, words));
  Bytes bytes;
  std::memcpy(&bytes, &all, sizeof(all));
  return bytes;
}
#else
inline Mask widen(const Bytes& bytes) { return __builtin_convertvector(bytes, Mask); }
inline Bytes narrow(const Mask& numbers) { return __builtin_convertvector(numbers, Bytes); }
#endif

/// The first `filled` lanes of a vector from or to memory; the others are zero or stay.
#if defined(__AVX512F__)
inline __mmask16 first_lanes(std::int64_t filled) {
  return filled >= kLanes ? __mmask16{0xffff} : static_cast<__mmask16>((1U << filled) - 1);
}
inline void load_filled(const float* from, std::int64_t filled, Vec& to) {
  to = reinterpret_cast<Vec>(_mm512_maskz_loadu_ps(first_lanes(filled), from));
}
inline void load_filled(const std::uint8_t* from, std::int64_t filled, Bytes& to) {
  to = reinterpret_cast<Bytes>(_mm_maskz_loadu_epi8(first_lanes(filled), from));
}
inline void store_filled(const Vec& from, std::int64_t filled, float* to) {
  _mm512_mask_storeu_ps(to, first_lanes(filled), reinterpret_cast<__m512>(from));
}
inline void store_filled(const Bytes& from, std::int64_t filled, std::uint8_t* to) {
  _mm_mask_storeu_epi8(to, first_lanes(filled), reinterpret_cast<__m128i>(from));
}
#else
template <typename Vector, typename Element>
inline void load_filled(const Element* from, std::int64_t filled, Vector& to) {
  if (filled >= kLanes) {
    std::memcpy(&to, from, sizeof(Vector));
    return;
  }
  to = Vector{};
  for (std::int64_t l = 0; l < filled; ++l) to[l] = from[l];
}

template <typename Vector, typename Element>
inline void store_filled(const Vector& from, std::int64_t filled, Element* to) {
  if (filled >= kLanes) {
    std::memcpy(to, &from, sizeof(Vector));
    return;
  }
  for (std::int64_t l = 0; l < filled; ++l) to[l] = from[l];
}
#endif

/// Images that are worked on at once: each channel then reads and writes long runs of memory.
constexpr std::int64_t kImages = 16;

/// Runs `visit` over groups of images that it finds split: (first image, images).
template <typename Visit>
inline void for_groups(const ConvPoolShape& shape, const float* input, Visit&& visit) {
  SplitImages images(std::min(kImages, shape.batch), shape.height, shape.width);
  for (std::int64_t begin = 0; begin < shape.batch; begin += kImages) {
    const std::int64_t count = std::min(kImages, shape.batch - begin);
    for (std::int64_t n = 0; n < count; ++n) {
      images.fill(n, input + (begin + n) * shape.height * shape.width);
    }
    visit(images, begin, count);
  }
}

void forward(const ConvPoolShape& shape, const float* input, const float* weight, const float* bias,
             float* output, std::uint8_t* source) {
  const std::int64_t rows = shape.pooled_height();
  const std::int64_t columns = shape.pooled_width();
  for_groups(shape, input, [&](const SplitImages& images, std::int64_t begin, std::int64_t count) {
    for (std::int64_t channel = 0; channel < shape.channels; ++channel) {
      float w[9];
      std::memcpy(w, weight + channel * 9, sizeof(w));
      for (std::int64_t n = 0; n < count; ++n) {
        const std::int64_t first = shape.output_at(begin + n, channel);
        for (std::int64_t i = 0; i < rows; ++i) {
          for_vectors(columns, [&](std::int64_t j, std::int64_t) {
            // Four independent sums hide the latency of the multiply-add.
            Vec window[4] = {};
#pragma GCC unroll 3
            for (std::int64_t kh = 0; kh < 3; ++kh) {
#pragma GCC unroll 3
              for (std::int64_t kw = 0; kw < 3; ++kw) {
                const Vec tap = Vec{} + w[kh * 3 + kw];
#pragma GCC unroll 4
                for (std::int64_t a = 0; a < 4; ++a) {
                  Vec x;
                  images.taps(n, 2 * i + a / 2 + kh, a % 2 + kw, j, x);
                  window[a] += tap * x;
                }
              }
            }
            Vec best = window[0];
            Mask index = {};
            for (std::int32_t a = 1; a < 4; ++a) {
              const Mask greater = window[a] > best;
              best = greater ? window[a] : best;
              index = greater ? Mask{} + a : index;
            }
            best += bias[channel];
            const Mask stopped = best <= 0.0F;
            best = stopped ? Vec{} : best;
            index = stopped ? Mask{} + kNoSource : index;
            const std::int64_t at = first + i * columns + j;
            store_filled(best, columns, output + at);
            store_filled(narrow(index), columns, source + at);
          });
        }
      }
    }
  });
}

void backward(const ConvPoolShape& shape, const float* input, const float* grad_output,
              const std::uint8_t* source, double* grad_weight, double* grad_bias) {
  const std::int64_t rows = shape.pooled_height();
  const std::int64_t columns = shape.pooled_width();
  Mask lanes;
  for (std::int32_t l = 0; l < kLanes; ++l) lanes[l] = l;
  for_groups(shape, input, [&](const SplitImages& images, std::int64_t begin, std::int64_t count) {
    for (std::int64_t channel = 0; channel < shape.channels; ++channel) {
      Vec sums[9] = {};
      Vec bias_sum = {};
      for (std::int64_t n = 0; n < count; ++n) {
        const std::int64_t first = shape.output_at(begin + n, channel);
        for (std::int64_t i = 0; i < rows; ++i) {
          for_vectors(columns, [&](std::int64_t j, std::int64_t done) {
            const std::int64_t at = first + i * columns + j;
            Vec gradient;
            load_filled(grad_output + at, columns, gradient);
            Bytes bytes;
            load_filled(source + at, columns, bytes);
            const Mask index = widen(bytes);
            const Mask before = lanes < static_cast<std::int32_t>(done);
            gradient = before ? Vec{} : gradient;
            bias_sum += index == kNoSource ? Vec{} : gradient;
#pragma GCC unroll 4
            for (std::int32_t a = 0; a < 4; ++a) {
              const Mask here = index == a;
              const Vec part = here ? gradient : Vec{};
#pragma GCC unroll 3
              for (std::int64_t kh = 0; kh < 3; ++kh) {
#pragma GCC unroll 3
                for (std::int64_t kw = 0; kw < 3; ++kw) {
                  Vec x;
                  images.taps(n, 2 * i + a / 2 + kh, a % 2 + kw, j, x);
                  sums[kh * 3 + kw] += part * x;
                }
              }
            }
          });
        }
      }
      for (std::int64_t k = 0; k < 9; ++k) {
        grad_weight[channel * 9 + k] += static_cast<double>(horizontal_sum(sums[k]));
      }
      grad_bias[channel] += static_cast<double>(horizontal_sum(bias_sum));
    }
  });
}

void moments(const ConvPoolShape& shape, const float* input, double* sum, double* products) {
  const std::int64_t rows = shape.height - 2;
  const std::int64_t columns = shape.width - 2;
  for (std::int64_t n = 0; n < shape.batch; ++n) {
    const float* image = input + n * shape.height * shape.width;
    Vec product_sums[9][9] = {};
    Vec patch_sums[9] = {};
    for (std::int64_t i = 0; i < rows; ++i) {
      for (std::int64_t j = 0; j < columns; j += kLanes) {
        const std::int64_t filled = columns - j < kLanes ? columns - j : kLanes;
        Vec patch[9];
        for (std::int64_t k = 0; k < 9; ++k) {
          load_filled(image + (i + k / 3) * shape.width + j + k % 3, filled, patch[k]);
        }
        for (std::int64_t k = 0; k < 9; ++k) {
          patch_sums[k] += patch[k];
          for (std::int64_t l = k; l < 9; ++l) product_sums[k][l] += patch[k] * patch[l];
        }
      }
    }
    for (std::int64_t k = 0; k < 9; ++k) {
      sum[k] += static_cast<double>(horizontal_sum(patch_sums[k]));
      for (std::int64_t l = k; l < 9; ++l) {
        const double value = static_cast<double>(horizontal_sum(product_sums[k][l]));
        products[k * 9 + l] += value;
        if (l != k) products[l * 9 + k] += value;
      }
    }
  }
}

constexpr ConvPoolKernels kConvPoolKernels{&forward, &backward, &moments};

}  // namespace
}  // namespace moekit::kernels
