#include "moekit/data/idx.h"
#include "tests/fuzz/input.h"

// An IDX file, packed or not.
extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace moekit;
  const auto file = fuzz::as_file(data, size);
  return fuzz::read_untrusted([&] { data::read_idx(file); });
}
