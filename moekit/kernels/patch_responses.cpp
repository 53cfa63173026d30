#include "moekit/kernels/patch_responses.h"

namespace moekit::kernels {

std::vector<const PatchKernels*> patch_responses_supported() {
  std::vector<const PatchKernels*> found;
#if defined(__x86_64__)
  if (patch_responses_avx2() != nullptr && __builtin_cpu_supports("avx2") &&
      __builtin_cpu_supports("fma")) {
    found.push_back(patch_responses_avx2());
  }
#endif
  found.push_back(patch_responses_generic());
  return found;
}

namespace {
const PatchKernels& fastest_patch_kernels() {
  static const PatchKernels* const kernels = patch_responses_supported().front();
  return *kernels;
}
}  // namespace

void patch_responses_forward(const PatchShape& shape, const float* samples,
                             const std::int64_t* rows, std::int64_t count, const float* weight,
                             const float* bias, float* output) {
  fastest_patch_kernels().forward(shape, samples, rows, count, weight, bias, output);
}

void patch_responses_backward(const PatchShape& shape, const float* samples,
                              const std::int64_t* rows, std::int64_t count, const float* weight,
                              const float* bias, const float* grad_output, double* grad_weight,
                              double* grad_bias) {
  fastest_patch_kernels().backward(shape, samples, rows, count, weight, bias, grad_output,
                                   grad_weight, grad_bias);
}

}  // namespace moekit::kernels
