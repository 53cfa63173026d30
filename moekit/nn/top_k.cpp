#include "moekit/nn/top_k.h"

#include "moekit/core/error.h"
#include "moekit/kernels/common/top_k.h"

namespace moekit::nn {

torch::Tensor top_k_index(const torch::Tensor& scores, int64_t top_k) {
  MOEKIT_CHECK(scores.dim() == 2 && scores.is_floating_point(),
               "top_k_index: scores must be [N, E] of a floating dtype; got ", scores.sizes(), " ",
               scores.dtype());
  MOEKIT_CHECK(top_k >= 0 && top_k <= scores.size(1), "top_k_index: K must be 0..", scores.size(1),
               "; got ", top_k);
  auto index = torch::empty({scores.size(0), top_k}, torch::kLong);
  if (index.numel() == 0) return index;
  const bool is_double = scores.scalar_type() == torch::kFloat64;
  // Every value of the shorter dtypes is a float: no tie comes of it.
  const auto rows = scores.detach().to(is_double ? torch::kFloat64 : torch::kFloat32).contiguous();
  auto* out = index.data_ptr<int64_t>();
  if (is_double) {
    kernels::top_k(rows.data_ptr<double>(), rows.size(0), rows.size(1), top_k, out);
  } else {
    kernels::top_k(rows.data_ptr<float>(), rows.size(0), rows.size(1), top_k, out);
  }
  return index;
}

torch::Tensor top1_index(const torch::Tensor& scores) { return top_k_index(scores, 1).squeeze(1); }

}  // namespace moekit::nn
