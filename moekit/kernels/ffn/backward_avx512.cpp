#include "moekit/kernels/ffn/ffn_kernels.h"

#if defined(__AVX512BW__) && defined(__AVX512VL__) && defined(__AVX512DQ__)
#include "moekit/kernels/ffn/backward_impl.h"
#include "moekit/kernels/ffn/isa_avx512.h"

namespace moekit::kernels {

const FfnBackwardKernels* ffn_backward_avx512() {
  static constexpr FfnBackwardKernels kernels = make_backward_kernels<Avx512>();
  return &kernels;
}

}  // namespace moekit::kernels
#else
const moekit::kernels::FfnBackwardKernels* moekit::kernels::ffn_backward_avx512() {
  return nullptr;
}
#endif
