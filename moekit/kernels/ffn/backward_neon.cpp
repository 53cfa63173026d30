#include "moekit/kernels/ffn/ffn_kernels.h"

#if defined(__aarch64__)
#include "moekit/kernels/ffn/backward_impl.h"
#include "moekit/kernels/ffn/isa_neon.h"

namespace moekit::kernels {

const FfnBackwardKernels* ffn_backward_neon() {
  static constexpr FfnBackwardKernels kernels = make_backward_kernels<Neon>();
  return &kernels;
}

}  // namespace moekit::kernels
#else
const moekit::kernels::FfnBackwardKernels* moekit::kernels::ffn_backward_neon() { return nullptr; }
#endif
