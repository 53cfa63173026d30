#include "moekit/kernels/patch/patch_responses_impl.h"

namespace moekit::kernels {

const PatchKernels* patch_responses_avx2() {
#if defined(__AVX2__) && defined(__FMA__)
  return &kPatchKernels;
#else
  return nullptr;
#endif
}

}  // namespace moekit::kernels
