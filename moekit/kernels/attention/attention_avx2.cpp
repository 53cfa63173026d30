#include "moekit/kernels/attention/attention_impl.h"

namespace moekit::kernels {

const AttentionKernels* attention_avx2() {
#if defined(__AVX2__) && defined(__FMA__)
  return &kAttentionKernels;
#else
  return nullptr;
#endif
}

}  // namespace moekit::kernels
