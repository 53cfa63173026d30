#pragma once

#include <torch/nn/cloneable.h>
#include <torch/nn/pimpl.h>

#include "moekit/nn/initialization.h"

namespace moekit::nn {

/// x + Up(ReLU(Down(x))), token by token, Down: D -> D / reduction: the identity at first, since Up
/// is zero. What a layer whose tokens share a gate puts before it, so that tokens differ by more
/// than one linear map. No token sees another, though the paper calls it token-level attention.
/// Source: He et al. 2023, arXiv:2310.09832, section 3; sizes and first weights (Down as libtorch's
/// linear layers, its bias 0) of the released code.
class TokenBlockImpl : public torch::nn::Cloneable<TokenBlockImpl>, public Initializable {
 public:
  /// @throws ArgumentError unless 1 <= reduction <= hidden_size.
  TokenBlockImpl(int64_t hidden_size, int64_t reduction);
  void reset() override;
  void reset_parameters(const at::Generator& generator) override;
  /// @param tokens [..., D], of the type of the parameters
  torch::Tensor forward(const torch::Tensor& tokens);

  torch::Tensor down, down_bias;  ///< [D / reduction, D], [D / reduction]
  torch::Tensor up, up_bias;      ///< [D, D / reduction], [D]

 private:
  int64_t hidden_size_, inner_size_;
};
TORCH_MODULE(TokenBlock);

}  // namespace moekit::nn
