#include "moekit/kernels/mean/weighted_mean_impl.h"

namespace moekit::kernels {

const MeanKernels* weighted_mean_avx2() {
#if defined(__AVX2__)
  return &kMeanKernels;
#else
  return nullptr;
#endif
}

}  // namespace moekit::kernels
