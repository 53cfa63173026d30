#pragma once

#include <cstdint>

/// How the calling thread, and those it starts from now on, compute.
namespace moekit::tensor {

/// Numbers too small for a float's full precision (below 1.2e-38) become zero. Processors take
/// many times as long for a product with one, and networks that train are full of them: shares
/// of a router that has decided, gradients of experts it does not ask.
void flush_denormals();

/// Denormals become zero, and libtorch takes this many threads.
void start_arithmetic(int64_t threads);

}  // namespace moekit::tensor
