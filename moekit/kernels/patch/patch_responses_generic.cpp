#include "moekit/kernels/patch/patch_responses_impl.h"

namespace moekit::kernels {

const PatchKernels* patch_responses_generic() {
  static constexpr PatchKernels kKernels{&responses_forward, &responses_backward};
  return &kKernels;
}

}  // namespace moekit::kernels
