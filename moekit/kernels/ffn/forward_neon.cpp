#include "moekit/kernels/ffn/ffn_kernels.h"

#if defined(__aarch64__)
#include "moekit/kernels/ffn/ffn_impl.h"
#include "moekit/kernels/ffn/isa_neon.h"

namespace moekit::kernels {

const FfnKernels* ffn_kernels_neon() {
  static constexpr FfnKernels kernels = make_kernels<Neon>();
  return &kernels;
}

}  // namespace moekit::kernels
#else
const moekit::kernels::FfnKernels* moekit::kernels::ffn_kernels_neon() { return nullptr; }
#endif
