#include "moekit/kernels/patch/patch_responses_impl.h"

namespace moekit::kernels {

const PatchKernels* patch_responses_avx512() {
#if defined(__AVX512F__)
  static constexpr PatchKernels kKernels{&responses_forward, &responses_backward};
  return &kKernels;
#else
  return nullptr;
#endif
}

}  // namespace moekit::kernels
