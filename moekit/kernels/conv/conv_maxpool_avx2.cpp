#include "moekit/kernels/conv/conv_maxpool_impl.h"

namespace moekit::kernels {

const ConvPoolKernels* conv_maxpool_avx2() {
#if defined(__AVX2__) && defined(__FMA__)
  return &kConvPoolKernels;
#else
  return nullptr;
#endif
}

}  // namespace moekit::kernels
