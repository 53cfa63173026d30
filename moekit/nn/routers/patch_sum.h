#pragma once

#include <torch/nn/cloneable.h>
#include <torch/nn/pimpl.h>

namespace moekit::nn {

/// Router trunk that sums the patches of a sample: [N, C, H, W] -> [N, C * s * s] for square
/// patches of side s side by side, or, with s = 0, [N, 1, P, d] -> [N, d], where each row is a
/// patch. A linear router behind it is one filter bank over the patches, summed over positions.
/// Source: Chen et al. 2022, arXiv:2208.02813, eq. 3.1 (gating network h_m).
class PatchSumImpl : public torch::nn::Cloneable<PatchSumImpl> {
 public:
  explicit PatchSumImpl(int64_t patch_size = 0) : patch_size_(patch_size) {}
  void reset() override {}
  /// @throws ArgumentError when the image is not a whole number of patches.
  torch::Tensor forward(const torch::Tensor& images);

 private:
  int64_t patch_size_;
};
TORCH_MODULE(PatchSum);

}  // namespace moekit::nn
