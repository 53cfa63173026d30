#include "moekit/tensor/arithmetic.h"

#include <ATen/Context.h>
#include <ATen/Parallel.h>

namespace moekit::tensor {

void flush_denormals() { at::globalContext().setFlushDenormal(true); }

void start_arithmetic(int64_t threads) {
  flush_denormals();
  at::set_num_threads(static_cast<int>(threads));
}

}  // namespace moekit::tensor
