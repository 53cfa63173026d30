#include "tests/kernels/ffn/amx_emulated.h"

#if defined(__AVX512BF16__) && defined(__AVX512VNNI__)
#include "moekit/kernels/ffn/ffn_impl.h"
#include "moekit/kernels/ffn/isa_avx512_amx.h"
#include "tests/kernels/ffn/emulated_tiles.h"

namespace moekit::kernels {

const FfnKernels* ffn_kernels_amx_emulated() {
  static constexpr FfnKernels kernels = make_kernels<Avx512Amx<EmulatedTiles>>();
  return &kernels;
}
const char* emulated_fault() { return EmulatedTiles::fault(); }
std::int64_t emulated_products() { return EmulatedTiles::products(); }

}  // namespace moekit::kernels
#else
namespace moekit::kernels {

const FfnKernels* ffn_kernels_amx_emulated() { return nullptr; }
const char* emulated_fault() { return nullptr; }
std::int64_t emulated_products() { return 0; }

}  // namespace moekit::kernels
#endif
