#pragma once

#include <torch/nn/cloneable.h>
#include <torch/nn/pimpl.h>

namespace moekit::nn {

/// x / sqrt(mean(x^2) + eps) * weight over the last dimension, in float32 at least, given in x's
/// type. Gradient flows to x and weight. Source: Zhang, Sennrich 2019, arXiv:1910.07467, eq. 4.
/// @param x [..., D] @param weight [D]
torch::Tensor rms_norm(const torch::Tensor& x, const torch::Tensor& weight, double eps);

/// The same as a module; its weight is one at first.
class RmsNormImpl : public torch::nn::Cloneable<RmsNormImpl> {
 public:
  RmsNormImpl(int64_t size, double eps);
  void reset() override;
  torch::Tensor forward(const torch::Tensor& x) { return rms_norm(x, weight, eps_); }

  torch::Tensor weight;  ///< [D]

 private:
  int64_t size_;
  double eps_;
};
TORCH_MODULE(RmsNorm);

}  // namespace moekit::nn
