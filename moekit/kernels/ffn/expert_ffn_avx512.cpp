#include "moekit/kernels/ffn/ffn_kernels.h"

#if defined(__AVX512BW__) && defined(__AVX512VL__) && defined(__AVX512DQ__)
#include "moekit/kernels/ffn/expert_ffn_avx512_impl.h"
#include "moekit/kernels/ffn/widened_impl.h"

namespace moekit::kernels {
namespace {

struct Avx512 : Avx512Base<Avx512> {
  using Bf16 = WidenedBf16<Avx512>;
  using Int8 = WidenedInt8<Avx512>;
  static MOEKIT_INLINE Int multiply_add_pairs(const Int& a, const Int& b) {
    return (Int)_mm512_madd_epi16((__m512i)a, (__m512i)b);
  }
  static MOEKIT_INLINE Float multiply_add(const Float& a, const Float& b, const Float& c) {
    return (Float)_mm512_fmadd_ps((__m512)a, (__m512)b, (__m512)c);
  }
  template <bool bf16>
  using Product = typename PickProduct<Avx512, bf16>::type;
};

}  // namespace

const FfnKernels* ffn_kernels_avx512() {
  static constexpr FfnKernels kernels = make_kernels<Avx512>();
  return &kernels;
}

}  // namespace moekit::kernels
#else
const moekit::kernels::FfnKernels* moekit::kernels::ffn_kernels_avx512() { return nullptr; }
#endif
