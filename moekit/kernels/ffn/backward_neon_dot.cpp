#include "moekit/kernels/ffn/ffn_kernels.h"

#if defined(__aarch64__) && defined(__ARM_FEATURE_DOTPROD)
#include "moekit/kernels/ffn/backward_impl.h"
#include "moekit/kernels/ffn/isa_neon_dot.h"

namespace moekit::kernels {

const FfnBackwardKernels* ffn_backward_neon_dot() {
  static constexpr FfnBackwardKernels kernels = make_backward_kernels<NeonDot>();
  return &kernels;
}

}  // namespace moekit::kernels
#else
const moekit::kernels::FfnBackwardKernels* moekit::kernels::ffn_backward_neon_dot() {
  return nullptr;
}
#endif
