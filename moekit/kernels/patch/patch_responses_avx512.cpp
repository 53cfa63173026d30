#include "moekit/kernels/patch/patch_responses_impl.h"

namespace moekit::kernels {

const PatchKernels* patch_responses_avx512() {
#if defined(__AVX512F__)
  return &kPatchKernels;
#else
  return nullptr;
#endif
}

}  // namespace moekit::kernels
