#include "moekit/kernels/patch/patch_responses.h"

#include "moekit/core/error.h"
#include "moekit/kernels/common/format_paths.h"

namespace moekit::kernels {

bool has_patch_kernel(Activation activation) {
  return activation == Activation::kIdentity || activation == Activation::kRelu ||
         activation == Activation::kCubic;
}

const PatchKernels& patch_responses_kernels(Isa isa) {
  return choose_form(isa, patch_responses_avx512(), patch_responses_avx2(),
                     patch_responses_generic());
}

namespace {
const PatchKernels& chosen_patch_kernels(const PatchShape& shape) {
  MOEKIT_CHECK(has_patch_kernel(shape.activation), "patch kernels: there is none for activation ",
               enum_name(shape.activation));
  static const PatchKernels& kernels = patch_responses_kernels(default_isa());
  return kernels;
}
}  // namespace

void patch_responses_forward(const PatchShape& shape, const float* samples,
                             const std::int64_t* rows, std::int64_t count, const float* weight,
                             const float* bias, float* output) {
  chosen_patch_kernels(shape).forward(shape, samples, rows, count, weight, bias, output);
}

void patch_responses_backward(const PatchShape& shape, const float* samples,
                              const std::int64_t* rows, std::int64_t count, const float* weight,
                              const float* bias, const float* grad_output, double* grad_weight,
                              double* grad_bias) {
  chosen_patch_kernels(shape).backward(shape, samples, rows, count, weight, bias, grad_output,
                                       grad_weight, grad_bias);
}

}  // namespace moekit::kernels
