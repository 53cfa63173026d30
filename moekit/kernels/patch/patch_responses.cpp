#include "moekit/kernels/patch/patch_responses.h"

namespace moekit::kernels {

const PatchKernels& patch_responses_kernels(Isa isa) {
  return choose_form(isa, patch_responses_avx512(), patch_responses_avx2(),
                     patch_responses_generic());
}

namespace {
const PatchKernels& chosen_patch_kernels() {
  static const PatchKernels& kernels = patch_responses_kernels(default_isa());
  return kernels;
}
}  // namespace

void patch_responses_forward(const PatchShape& shape, const float* samples,
                             const std::int64_t* rows, std::int64_t count, const float* weight,
                             const float* bias, float* output) {
  chosen_patch_kernels().forward(shape, samples, rows, count, weight, bias, output);
}

void patch_responses_backward(const PatchShape& shape, const float* samples,
                              const std::int64_t* rows, std::int64_t count, const float* weight,
                              const float* bias, const float* grad_output, double* grad_weight,
                              double* grad_bias) {
  chosen_patch_kernels().backward(shape, samples, rows, count, weight, bias, grad_output,
                                  grad_weight, grad_bias);
}

}  // namespace moekit::kernels
