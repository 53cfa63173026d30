#include "moekit/kernels/ffn/ffn_kernels.h"

#if defined(__aarch64__) && defined(__ARM_FEATURE_DOTPROD)
#include "moekit/kernels/ffn/ffn_impl.h"
#include "moekit/kernels/ffn/isa_neon_dot.h"

namespace moekit::kernels {

const FfnKernels* ffn_kernels_neon_dot() {
  static constexpr FfnKernels kernels = make_kernels<NeonDot>();
  return &kernels;
}

}  // namespace moekit::kernels
#else
const moekit::kernels::FfnKernels* moekit::kernels::ffn_kernels_neon_dot() { return nullptr; }
#endif
