#include "moekit/kernels/conv_maxpool.h"

namespace moekit::kernels {
namespace {

const ConvPoolKernels& chosen() {
  static const ConvPoolKernels* const kernels =
      conv_maxpool_avx2_supported() ? conv_maxpool_avx2() : conv_maxpool_generic();
  return *kernels;
}

}  // namespace

bool conv_maxpool_avx2_supported() {
#if defined(__x86_64__)
  return conv_maxpool_avx2() != nullptr && __builtin_cpu_supports("avx2") &&
         __builtin_cpu_supports("fma");
#else
  return false;
#endif
}

std::string_view conv_maxpool_isa() { return chosen().isa; }

void conv3x3_maxpool2_forward(const ConvPoolShape& shape, const float* input, const float* weight,
                              float* output, std::uint8_t* argmax) {
  chosen().forward(shape, input, weight, output, argmax);
}

void conv3x3_maxpool2_backward(const ConvPoolShape& shape, const float* input,
                               const float* grad_output, const std::uint8_t* argmax,
                               double* grad_weight) {
  chosen().backward(shape, input, grad_output, argmax, grad_weight);
}

void patch3x3_moments(const ConvPoolShape& shape, const float* input, double* sum,
                      double* products) {
  chosen().moments(shape, input, sum, products);
}

}  // namespace moekit::kernels
