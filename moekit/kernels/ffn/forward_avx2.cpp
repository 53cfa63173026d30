#include "moekit/kernels/ffn/ffn_kernels.h"

#if defined(__AVX2__) && defined(__FMA__)
#include "moekit/kernels/ffn/ffn_impl.h"
#include "moekit/kernels/ffn/isa_avx2.h"

namespace moekit::kernels {

const FfnKernels* ffn_kernels_avx2() {
  static constexpr FfnKernels kernels = make_kernels<Avx2>();
  return &kernels;
}

}  // namespace moekit::kernels
#else
const moekit::kernels::FfnKernels* moekit::kernels::ffn_kernels_avx2() { return nullptr; }
#endif
