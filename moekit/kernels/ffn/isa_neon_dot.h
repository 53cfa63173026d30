// ARMv8.2's vectors with the product of four signed bytes a lane, sdot.
#pragma once

#include "moekit/kernels/ffn/isa_neon_base.h"

namespace moekit::kernels {
namespace {

struct NeonDot : NeonBase<NeonDot> {
  /// Four products of signed bytes, exact in int32.
  struct Int8 {
    using Acc = Int;
    using Right = int8x16_t;
    using Left = int8x8_t;
    static MOEKIT_INLINE Right right(const void* from) { return right(load<Unsigned>(from)); }
    static MOEKIT_INLINE Right right(const Unsigned& codes) { return (Right)codes; }
    static MOEKIT_INLINE Left left(std::uint32_t quad) { return vcreate_s8(quad); }
    static MOEKIT_INLINE Acc dot(const Acc& acc, const Left& a, const Right& b) {
      return (Acc)vdotq_lane_s32((int32x4_t)acc, b, a, 0);
    }
  };
  using SignedInt8 = SignedCodes<NeonDot>;
};

}  // namespace
}  // namespace moekit::kernels
