#include "moekit/kernels/patch/patch_responses_impl.h"

namespace moekit::kernels {

const PatchKernels* patch_responses_generic() { return &kPatchKernels; }

}  // namespace moekit::kernels
