#pragma once

#include <ATen/core/Generator.h>

#include <cstdint>

namespace moekit::tensor {

/// A generator of its own, on the CPU, that starts at `seed`: two of one seed draw the same
/// numbers.
at::Generator make_generator(uint64_t seed);

}  // namespace moekit::tensor
