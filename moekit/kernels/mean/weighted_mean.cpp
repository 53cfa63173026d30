#include "moekit/kernels/mean/weighted_mean.h"

#include "moekit/kernels/common/format_paths.h"
#include "moekit/kernels/mean/weighted_mean_impl.h"

namespace moekit::kernels {

const MeanKernels& weighted_mean_kernels(Isa isa) {
  return choose_form(isa, weighted_mean_avx512(), weighted_mean_avx2(), weighted_mean_generic());
}

namespace {
const MeanKernels& chosen_mean() {
  static const MeanKernels& kernels = weighted_mean_kernels(default_isa());
  return kernels;
}
}  // namespace

void weighted_mean(const float* const* inputs, const double* shares, std::int64_t count,
                   std::int64_t size, float* out) {
  chosen_mean().of_float(inputs, shares, count, size, out);
}

void weighted_mean(const Bf16Bits* const* inputs, const double* shares, std::int64_t count,
                   std::int64_t size, Bf16Bits* out) {
  chosen_mean().of_bf16(inputs, shares, count, size, out);
}

}  // namespace moekit::kernels
