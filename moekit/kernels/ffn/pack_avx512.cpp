#include "moekit/kernels/ffn/pack_impl.h"

namespace moekit::kernels {

const PackKernels* pack_kernels_avx512() {
#if defined(__AVX512F__) && defined(__AVX512BW__)
  return &kPackKernels;
#else
  return nullptr;
#endif
}

}  // namespace moekit::kernels
