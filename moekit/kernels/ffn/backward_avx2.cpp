#include "moekit/kernels/ffn/ffn_kernels.h"

#if defined(__AVX2__) && defined(__FMA__)
#include "moekit/kernels/ffn/backward_impl.h"
#include "moekit/kernels/ffn/isa_avx2.h"

namespace moekit::kernels {

const FfnBackwardKernels* ffn_backward_avx2() {
  static constexpr FfnBackwardKernels kernels = make_backward_kernels<Avx2>();
  return &kernels;
}

}  // namespace moekit::kernels
#else
const moekit::kernels::FfnBackwardKernels* moekit::kernels::ffn_backward_avx2() { return nullptr; }
#endif
