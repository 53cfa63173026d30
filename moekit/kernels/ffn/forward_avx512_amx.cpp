#include "moekit/kernels/ffn/ffn_kernels.h"

#if defined(__AMX_TILE__) && defined(__AMX_BF16__) && defined(__AMX_INT8__)
#include "moekit/kernels/ffn/ffn_impl.h"
#include "moekit/kernels/ffn/isa_avx512_amx.h"

namespace moekit::kernels {

const FfnKernels* ffn_kernels_avx512_amx() {
  static constexpr FfnKernels kernels = make_kernels<Avx512Amx<AmxTiles>>();
  return &kernels;
}

}  // namespace moekit::kernels
#else
const moekit::kernels::FfnKernels* moekit::kernels::ffn_kernels_avx512_amx() { return nullptr; }
#endif
