#include "moekit/kernels/conv/conv_maxpool_impl.h"

namespace moekit::kernels {

const ConvPoolKernels* conv_maxpool_avx512() {
#if defined(__AVX512F__)
  return &kConvPoolKernels;
#else
  return nullptr;
#endif
}

}  // namespace moekit::kernels
