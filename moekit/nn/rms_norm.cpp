#include "moekit/nn/rms_norm.h"

#include "moekit/core/error.h"
#include "moekit/nn/precision.h"

namespace moekit::nn {

torch::Tensor rms_norm(const torch::Tensor& x, const torch::Tensor& weight, double eps) {
  MOEKIT_CHECK(x.dim() >= 1 && weight.dim() == 1 && x.size(-1) == weight.size(0),
               "rms_norm: x must be [..., ", weight.numel(), "]; got ", x.sizes());
  const auto wide = at_least_float(x);
  const auto factor = torch::rsqrt(wide.square().mean(-1, /*keepdim=*/true) + eps);
  return (wide * factor * at_least_float(weight)).to(x.scalar_type());
}

RmsNormImpl::RmsNormImpl(int64_t size, double eps) : size_(size), eps_(eps) {
  MOEKIT_CHECK(size >= 1 && eps >= 0, "RmsNorm: size must be at least 1 and eps at least 0; got ",
               size, " and ", eps);
  reset();
}

void RmsNormImpl::reset() { weight = register_parameter("weight", torch::ones({size_})); }

}  // namespace moekit::nn
