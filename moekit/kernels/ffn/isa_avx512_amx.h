// AVX-512 with VNNI beside AMX: products of many rows on tiles. Written over the tile instructions,
// which the tests emulate.
#pragma once

#include "moekit/kernels/ffn/amx_impl.h"
#include "moekit/kernels/ffn/isa_avx512_base.h"
#include "moekit/kernels/ffn/isa_avx512_vnni.h"
#include "moekit/kernels/ffn/widened_impl.h"

namespace moekit::kernels {
namespace {

/// The tile instructions themselves, of palette 1. Written as assembly: GCC 12's own forms neither
/// tell which memory is read nor take a tile's number from a template.
/// Source: Intel 64 and IA-32 Architectures Software Developer's Manual, vol. 2.
struct AmxTiles {
  static MOEKIT_INLINE void configure(const TileConfig& config) {
    asm volatile("ldtilecfg %0" : : "m"(config));
  }
  static MOEKIT_INLINE void release() { asm volatile("tilerelease"); }
  template <int t>
  static MOEKIT_INLINE void zero() {
    asm volatile("tilezero %%tmm%c0" : : "i"(t));
  }
  template <int t>
  static MOEKIT_INLINE void load(const void* from, std::int64_t stride) {
    asm volatile("tileloadd (%0,%1,1), %%tmm%c2" : : "r"(from), "r"(stride), "i"(t) : "memory");
  }
  template <int t>
  static MOEKIT_INLINE void store(void* to, std::int64_t stride) {
    asm volatile("tilestored %%tmm%c2, (%0,%1,1)" : : "r"(to), "r"(stride), "i"(t) : "memory");
  }
  /// c += a b, of pairs of bfloat16.
  template <int c, int a, int b>
  static MOEKIT_INLINE void dot_bf16() {
    asm volatile("tdpbf16ps %%tmm%c2, %%tmm%c1, %%tmm%c0" : : "i"(c), "i"(a), "i"(b));
  }
  /// c += a b, of four signed bytes times four unsigned ones.
  template <int c, int a, int b>
  static MOEKIT_INLINE void dot_int8() {
    asm volatile("tdpbsud %%tmm%c2, %%tmm%c1, %%tmm%c0" : : "i"(c), "i"(a), "i"(b));
  }
};

/// Few rows run on vectors: bytes by VNNI, and bfloat16 widened, for on a processor with tiles (see
/// docs/kernels.md) vdpbf16ps was measured at half the rate of two multiply-adds of float.
template <typename TileInstructions>
struct Avx512Amx : Avx512Base<Avx512Amx<TileInstructions>> {
  using Base = Avx512Base<Avx512Amx<TileInstructions>>;
  static MOEKIT_INLINE typename Base::Float multiply_add(const typename Base::Float& a,
                                                         const typename Base::Float& b,
                                                         const typename Base::Float& c) {
    return (typename Base::Float)_mm512_fmadd_ps((__m512)a, (__m512)b, (__m512)c);
  }
  struct Bf16 : WidenedBf16<Avx512Amx> {
    using Tiles = TileInstructions;
    template <int c, int a, int b>
    static MOEKIT_INLINE void tile_dot() {
      Tiles::template dot_bf16<c, a, b>();
    }
  };
  struct Int8 : VnniInt8<Avx512Amx> {
    using Tiles = TileInstructions;
    template <int c, int a, int b>
    static MOEKIT_INLINE void tile_dot() {
      Tiles::template dot_int8<c, a, b>();
    }
  };
};

}  // namespace
}  // namespace moekit::kernels
