#include "moekit/kernels/mean/weighted_mean_impl.h"

namespace moekit::kernels {

const MeanKernels* weighted_mean_generic() { return &kMeanKernels; }

}  // namespace moekit::kernels
