#include "moekit/kernels/conv/conv_maxpool.h"

#include "moekit/kernels/common/format_paths.h"
namespace moekit::kernels {
const ConvPoolKernels& conv_maxpool_kernels(Isa isa) {
  return choose_form(isa, conv_maxpool_avx512(), conv_maxpool_avx2(), conv_maxpool_generic());
}

namespace {
const ConvPoolKernels& chosen() {
  static const ConvPoolKernels& kernels = conv_maxpool_kernels(default_isa());
  return kernels;
}
}  // namespace

void conv3x3_maxpool2_relu_forward(const ConvPoolShape& shape, const float* input,
                                   const float* weight, const float* bias, float* output,
                                   std::uint8_t* source) {
  chosen().forward(shape, input, weight, bias, output, source);
}

void conv3x3_maxpool2_relu_backward(const ConvPoolShape& shape, const float* input,
                                    const float* grad_output, const std::uint8_t* source,
                                    double* grad_weight, double* grad_bias) {
  chosen().backward(shape, input, grad_output, source, grad_weight, grad_bias);
}

void patch3x3_moments(const ConvPoolShape& shape, const float* input, double* sum,
                      double* products) {
  chosen().moments(shape, input, sum, products);
}

}  // namespace moekit::kernels
