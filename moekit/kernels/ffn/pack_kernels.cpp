#include "moekit/kernels/ffn/pack_kernels.h"

#include "moekit/kernels/common/format_paths.h"
#include "moekit/kernels/ffn/pack_impl.h"

namespace moekit::kernels {

const PackKernels& pack_kernels(Isa isa) {
  return choose_form(isa, pack_kernels_avx512(), pack_kernels_avx2(), pack_kernels_generic());
}

const PackKernels& pack_kernels() {
  static const PackKernels& kernels = pack_kernels(default_isa());
  return kernels;
}

}  // namespace moekit::kernels
