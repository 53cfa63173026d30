#include "moekit/tensor/generator.h"

#include <ATen/CPUGeneratorImpl.h>

namespace moekit::tensor {

at::Generator make_generator(uint64_t seed) {
  return at::make_generator<at::CPUGeneratorImpl>(seed);
}

}  // namespace moekit::tensor
