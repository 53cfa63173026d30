#include "moekit/kernels/ffn/ffn_kernels.h"

#if defined(__AVX512BF16__) && defined(__AVX512VNNI__)
#include "moekit/kernels/ffn/ffn_impl.h"
#include "moekit/kernels/ffn/isa_avx512_vnni.h"

namespace moekit::kernels {

const FfnKernels* ffn_kernels_avx512_vnni() {
  static constexpr FfnKernels kernels = make_kernels<Avx512Vnni>();
  return &kernels;
}

}  // namespace moekit::kernels
#else
const moekit::kernels::FfnKernels* moekit::kernels::ffn_kernels_avx512_vnni() { return nullptr; }
#endif
