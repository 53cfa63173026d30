#include "moekit/kernels/conv/conv_maxpool_impl.h"

namespace moekit::kernels {

const ConvPoolKernels* conv_maxpool_generic() {
  static constexpr ConvPoolKernels kKernels{&forward, &backward, &moments};
  return &kKernels;
}

}  // namespace moekit::kernels
