#include "moekit/data/cifar.h"
#include "tests/fuzz/input.h"

// CIFAR-10's records of one label, CIFAR-100's of two.
extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace moekit;
  const auto file = fuzz::as_file(data, size);
  fuzz::read_untrusted([&] { data::read_cifar({file}, {1, 10, 10000, false}); });
  return fuzz::read_untrusted([&] { data::read_cifar({file}, {2, 100, 50000, false}); });
}
