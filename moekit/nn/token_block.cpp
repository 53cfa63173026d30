#include "moekit/nn/token_block.h"

#include "moekit/core/error.h"

namespace moekit::nn {

TokenBlockImpl::TokenBlockImpl(int64_t hidden_size, int64_t reduction)
    : hidden_size_(hidden_size), inner_size_(0) {
  MOEKIT_CHECK(reduction >= 1 && reduction <= hidden_size,
               "TokenBlock: reduction must be 1..hidden_size = 1..", hidden_size, "; got ",
               reduction);
  inner_size_ = hidden_size / reduction;
  reset();
}

void TokenBlockImpl::reset() {
  down = register_parameter("down", torch::empty({inner_size_, hidden_size_}));
  down_bias = register_parameter("down_bias", torch::empty({inner_size_}));
  up = register_parameter("up", torch::empty({hidden_size_, inner_size_}));
  up_bias = register_parameter("up_bias", torch::empty({hidden_size_}));
  reset_parameters({});
}

void TokenBlockImpl::reset_parameters(const at::Generator& generator) {
  const torch::NoGradGuard no_grad;
  init_uniform_fan_in(down, hidden_size_, generator);
  for (auto* zero : {&down_bias, &up, &up_bias}) zero->zero_();
}

torch::Tensor TokenBlockImpl::forward(const torch::Tensor& tokens) {
  return tokens + torch::linear(torch::relu(torch::linear(tokens, down, down_bias)), up, up_bias);
}

}  // namespace moekit::nn
