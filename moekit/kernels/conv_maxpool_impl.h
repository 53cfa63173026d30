// The kernels of conv_maxpool.h, written once with the compiler's vector types and compiled once
// per instruction set: conv_maxpool_avx2.cpp and conv_maxpool_generic.cpp include this file and
// differ in their compiler flags alone. Everything is in an unnamed namespace, so that no code
// compiled for AVX2 can be linked into the generic path.
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <vector>

#include "moekit/kernels/conv_maxpool.h"

namespace moekit::kernels {
namespace {

constexpr std::int64_t kLanes = 8;
using Vec = float __attribute__((vector_size(kLanes * sizeof(float))));
using Mask = std::int32_t __attribute__((vector_size(kLanes * sizeof(std::int32_t))));
using Bytes = std::uint8_t __attribute__((vector_size(kLanes)));
constexpr std::uint8_t kNoSource = 4;

inline void load(const float* from, Vec& to) { std::memcpy(&to, from, sizeof(Vec)); }

inline void broadcast(float value, Vec& to) {
  for (std::int64_t l = 0; l < kLanes; ++l) to[l] = value;
}

inline float horizontal_sum(const Vec& v) {
  float sum = 0;
  for (std::int64_t l = 0; l < kLanes; ++l) sum += v[l];
  return sum;
}

/// An image with its even and odd columns apart, so that the four convolution results of a pool
/// window, and the taps they need, are contiguous over windows:
/// column 2j + c of a row is (c % 2 ? odd : even)[j + c / 2].
class SplitImage {
 public:
  SplitImage(std::int64_t height, std::int64_t width)
      : height_(height),
        width_(width),
        // Reads go to j + 1 of the last, partly filled vector.
        stride_((width / 2 + kLanes) / kLanes * kLanes + kLanes),
        columns_(static_cast<std::size_t>(2 * height * stride_), 0.0F) {}

  void fill(const float* image) {
    for (std::int64_t r = 0; r < height_; ++r) {
      float* even = columns_.data() + 2 * r * stride_;
      float* odd = even + stride_;
      const float* row = image + r * width_;
      for (std::int64_t j = 0; j < width_ / 2; ++j) {
        even[j] = row[2 * j];
        odd[j] = row[2 * j + 1];
      }
      if (width_ % 2 == 1) even[width_ / 2] = row[width_ - 1];
    }
  }

  /// Lanes j .. j + kLanes - 1 of column offset c (0..3) in row r.
  void taps(std::int64_t r, std::int64_t c, std::int64_t j, Vec& to) const {
    load(columns_.data() + (2 * r + c % 2) * stride_ + j + c / 2, to);
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

/// The first `filled` lanes of a vector from or to memory; the others are zero or stay.
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

void forward(const ConvPoolShape& shape, const float* input, const float* weight, const float* bias,
             float* output, std::uint8_t* source) {
  const std::int64_t rows = shape.pooled_height();
  const std::int64_t columns = shape.pooled_width();
  SplitImage image(shape.height, shape.width);
  for (std::int64_t n = 0; n < shape.batch; ++n) {
    image.fill(input + n * shape.height * shape.width);
    for (std::int64_t i = 0; i < rows; ++i) {
      for_vectors(columns, [&](std::int64_t j, std::int64_t) {
        Vec x[4][4];
        for (std::int64_t r = 0; r < 4; ++r) {
          for (std::int64_t c = 0; c < 4; ++c) image.taps(2 * i + r, c, j, x[r][c]);
        }
        for (std::int64_t channel = 0; channel < shape.channels; ++channel) {
          // Four independent sums hide the latency of the multiply-add.
          Vec window[4] = {};
          for (std::int64_t kh = 0; kh < 3; ++kh) {
            for (std::int64_t kw = 0; kw < 3; ++kw) {
              Vec w;
              broadcast(weight[channel * 9 + kh * 3 + kw], w);
              window[0] += w * x[kh][kw];
              window[1] += w * x[kh][kw + 1];
              window[2] += w * x[kh + 1][kw];
              window[3] += w * x[kh + 1][kw + 1];
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
          const std::int64_t at = shape.output_at(n, channel) + i * columns + j;
          store_filled(best, columns, output + at);
          store_filled(__builtin_convertvector(index, Bytes), columns, source + at);
        }
      });
    }
  }
}

void backward(const ConvPoolShape& shape, const float* input, const float* grad_output,
              const std::uint8_t* source, double* grad_weight, double* grad_bias) {
  const std::int64_t rows = shape.pooled_height();
  const std::int64_t columns = shape.pooled_width();
  const Mask lanes = {0, 1, 2, 3, 4, 5, 6, 7};
  SplitImage image(shape.height, shape.width);
  for (std::int64_t n = 0; n < shape.batch; ++n) {
    image.fill(input + n * shape.height * shape.width);
    for (std::int64_t channel = 0; channel < shape.channels; ++channel) {
      Vec sums[9] = {};
      Vec bias_sum = {};
      const std::int64_t begin = shape.output_at(n, channel);
      for (std::int64_t i = 0; i < rows; ++i) {
        for_vectors(columns, [&](std::int64_t j, std::int64_t done) {
          const std::int64_t at = begin + i * columns + j;
          Vec gradient;
          load_filled(grad_output + at, columns, gradient);
          Bytes bytes;
          load_filled(source + at, columns, bytes);
          Mask index = __builtin_convertvector(bytes, Mask);
          const Mask before = lanes < static_cast<std::int32_t>(done);
          gradient = before ? Vec{} : gradient;
          bias_sum += index == kNoSource ? Vec{} : gradient;
          for (std::int32_t a = 0; a < 4; ++a) {
            const Mask here = index == a;
            const Vec part = here ? gradient : Vec{};
            for (std::int64_t kh = 0; kh < 3; ++kh) {
              for (std::int64_t kw = 0; kw < 3; ++kw) {
                Vec x;
                image.taps(2 * i + a / 2 + kh, a % 2 + kw, j, x);
                sums[kh * 3 + kw] += part * x;
              }
            }
          }
        });
      }
      for (std::int64_t k = 0; k < 9; ++k) {
        grad_weight[channel * 9 + k] += static_cast<double>(horizontal_sum(sums[k]));
      }
      grad_bias[channel] += static_cast<double>(horizontal_sum(bias_sum));
    }
  }
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
        Vec patch[9] = {};
        for (std::int64_t k = 0; k < 9; ++k) {
          std::memcpy(&patch[k], image + (i + k / 3) * shape.width + j + k % 3,
                      static_cast<std::size_t>(filled) * sizeof(float));
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

}  // namespace
}  // namespace moekit::kernels
