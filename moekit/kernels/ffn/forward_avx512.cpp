#include "moekit/kernels/ffn/ffn_kernels.h"

#if defined(__AVX512BW__) && defined(__AVX512VL__) && defined(__AVX512DQ__)
#include "moekit/kernels/ffn/ffn_impl.h"
#include "moekit/kernels/ffn/isa_avx512.h"

namespace moekit::kernels {

const FfnKernels* ffn_kernels_avx512() {
  static constexpr FfnKernels kernels = make_kernels<Avx512>();
  return &kernels;
}

}  // namespace moekit::kernels
#else
const moekit::kernels::FfnKernels* moekit::kernels::ffn_kernels_avx512() { return nullptr; }
#endif
