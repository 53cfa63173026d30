#include "moekit/kernels/conv/conv_maxpool_impl.h"

namespace moekit::kernels {

const ConvPoolKernels* conv_maxpool_generic() { return &kConvPoolKernels; }

}  // namespace moekit::kernels
