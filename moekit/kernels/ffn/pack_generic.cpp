#include "moekit/kernels/ffn/pack_impl.h"

namespace moekit::kernels {

const PackKernels* pack_kernels_generic() { return &kPackKernels; }

}  // namespace moekit::kernels
