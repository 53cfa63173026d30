// Plain loops that define what the expert kernels compute; sums in double.
#pragma once

#include "moekit/kernels/ffn/expert_ffn.h"

namespace moekit::kernels {

void reference_forward(const std::vector<FfnBank>& banks, const float* tokens, float* output);
void reference_train_forward(const TrainBank& bank, const float* tokens, float* output);
void reference_backward(const TrainBank& bank, const float* tokens, const float* grad_output,
                        const FfnGradients& gradients);

}  // namespace moekit::kernels
