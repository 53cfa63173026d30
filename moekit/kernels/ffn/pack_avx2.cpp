#include "moekit/kernels/ffn/pack_impl.h"

namespace moekit::kernels {

const PackKernels* pack_kernels_avx2() {
#if defined(__AVX2__)
  return &kPackKernels;
#else
  return nullptr;
#endif
}

}  // namespace moekit::kernels
