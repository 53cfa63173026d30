// ARMv8.0's vectors, which have no product of bfloat16 and none that sums four bytes: bfloat16 is
// widened to float, and products of bytes are summed in int16 first.
#pragma once

#include "moekit/kernels/ffn/isa_neon_base.h"

namespace moekit::kernels {
namespace {

struct Neon : NeonBase<Neon> {
  /// Even bytes in the lower half of a vector, odd ones in the upper: the products of one of each
  /// have a sum that fits in int16, 2 * 128 * 127 < 2^15, and two neighbouring sums are a lane's.
  struct Int8 {
    using Acc = Int;
    using Right = int8x16_t;
    using Left = int8x16_t;
    static MOEKIT_INLINE Right right(const void* from) { return right(load<Unsigned>(from)); }
    static MOEKIT_INLINE Right right(const Unsigned& codes) {
      return vqtbl1q_s8((int8x16_t)codes,
                        uint8x16_t{0, 2, 4, 6, 8, 10, 12, 14, 1, 3, 5, 7, 9, 11, 13, 15});
    }
    static MOEKIT_INLINE Left left(std::uint32_t quad) {
      return right((Unsigned)broadcast_word(quad));
    }
    static MOEKIT_INLINE Acc dot(const Acc& acc, const Left& a, const Right& b) {
      const int16x8_t even = vmull_s8(vget_low_s8(a), vget_low_s8(b));
      return (Acc)vpadalq_s16((int32x4_t)acc, vmlal_high_s8(even, a, b));
    }
  };
  using SignedInt8 = SignedCodes<Neon>;
};

}  // namespace
}  // namespace moekit::kernels
