#include "moekit/kernels/attention/attention_impl.h"

namespace moekit::kernels {

const AttentionKernels* attention_generic() { return &kAttentionKernels; }

}  // namespace moekit::kernels
