#include "moekit/kernels/common/activation.h"

namespace moekit {

bool is_gated(Activation activation) {
  return activation == Activation::kSwiglu || activation == Activation::kGeglu ||
         activation == Activation::kReglu;
}

}  // namespace moekit
