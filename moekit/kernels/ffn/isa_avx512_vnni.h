// AVX-512 with products of bfloat16 pairs and of byte quads.
#pragma once

#include "moekit/kernels/ffn/isa_avx512_base.h"

namespace moekit::kernels {
namespace {

/// Four products of an unsigned code and a signed one, exact in int32.
template <typename I>
struct VnniInt8 {
  using Acc = typename I::Int;
  using Right = typename I::Int;
  using Left = typename I::Int;
  static MOEKIT_INLINE Right right(const void* from) { return load<Right>(from); }
  static MOEKIT_INLINE Right right(const typename I::Unsigned& codes) { return (Right)codes; }
  static MOEKIT_INLINE Left left(std::uint32_t quad) {
    return broadcast<I>(static_cast<std::int32_t>(quad));
  }
  static MOEKIT_INLINE Acc dot(const Acc& acc, const Left& a, const Right& b) {
    return (Acc)_mm512_dpbusd_epi32((__m512i)acc, (__m512i)b, (__m512i)a);
  }
};

struct Avx512Vnni : Avx512Base<Avx512Vnni> {
  /// Two bfloat16 products a lane and instruction.
  struct Bf16 {
    using Acc = Float;
    using Right = Int;
    using Left = Int;
    static MOEKIT_INLINE Right right(const void* from) { return load<Int>(from); }
    static MOEKIT_INLINE Left left(std::uint32_t pair) {
      return broadcast<Avx512Vnni>(static_cast<std::int32_t>(pair));
    }
    static MOEKIT_INLINE Acc dot(const Acc& acc, const Left& a, const Right& b) {
      return (Acc)_mm512_dpbf16_ps((__m512)acc, (__m512bh)(__m512i)a, (__m512bh)(__m512i)b);
    }
  };
  using Int8 = VnniInt8<Avx512Vnni>;
};

}  // namespace
}  // namespace moekit::kernels
