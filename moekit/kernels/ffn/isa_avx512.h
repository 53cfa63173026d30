// AVX-512 without the instructions of bfloat16 and bytes: those formats are widened.
#pragma once

#include "moekit/kernels/ffn/isa_avx512_base.h"
#include "moekit/kernels/ffn/widened_impl.h"

namespace moekit::kernels {
namespace {

struct Avx512 : Avx512Base<Avx512> {
  using Bf16 = WidenedBf16Halves<Avx512>;
  using Int8 = WidenedInt8<Avx512>;
  static MOEKIT_INLINE Int multiply_add_pairs(const Int& a, const Int& b) {
    return (Int)_mm512_madd_epi16((__m512i)a, (__m512i)b);
  }
  static MOEKIT_INLINE Float multiply_add(const Float& a, const Float& b, const Float& c) {
    return (Float)_mm512_fmadd_ps((__m512)a, (__m512)b, (__m512)c);
  }
};

}  // namespace
}  // namespace moekit::kernels
