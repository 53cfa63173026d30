#include "moekit/kernels/attention/attention_impl.h"

namespace moekit::kernels {

const AttentionKernels* attention_avx512() {
#if defined(__AVX512F__) && defined(__AVX512BW__)
  return &kAttentionKernels;
#else
  return nullptr;
#endif
}

}  // namespace moekit::kernels
