#include "moekit/checkpoint/sharded.h"
#include "moekit/core/files.h"
#include "tests/fuzz/input.h"

// An index of shards, beside two files that it may name.
extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace moekit;
  static const auto folder = [] {
    const auto made = fuzz::make_folder("index");
    for (const char* name : {"one", "two"}) write_file_atomic(made / name, "");
    return made;
  }();
  static const auto index = folder / "index.json";
  static const bool linked = [&] {
    std::filesystem::create_symlink(fuzz::as_file(data, size), index);
    return true;
  }();
  (void)linked;
  fuzz::as_file(data, size);
  return fuzz::read_untrusted([&] {
    const checkpoint::ShardedTensors tensors(index);
    for (const auto& name : tensors.names()) {
      fuzz::read_untrusted([&] { tensors.read_codes(name); });
    }
  });
}
