#include "moekit/kernels/mean/weighted_mean_impl.h"

namespace moekit::kernels {

const MeanKernels* weighted_mean_avx512() {
#if defined(__AVX512F__) && defined(__AVX512BW__)
  return &kMeanKernels;
#else
  return nullptr;
#endif
}

}  // namespace moekit::kernels
