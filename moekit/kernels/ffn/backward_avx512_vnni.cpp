#include "moekit/kernels/ffn/ffn_kernels.h"

#if defined(__AVX512BF16__) && defined(__AVX512VNNI__)
#include "moekit/kernels/ffn/backward_impl.h"
#include "moekit/kernels/ffn/isa_avx512_vnni.h"

namespace moekit::kernels {

const FfnBackwardKernels* ffn_backward_avx512_vnni() {
  static constexpr FfnBackwardKernels kernels = make_backward_kernels<Avx512Vnni>();
  return &kernels;
}

}  // namespace moekit::kernels
#else
const moekit::kernels::FfnBackwardKernels* moekit::kernels::ffn_backward_avx512_vnni() {
  return nullptr;
}
#endif
