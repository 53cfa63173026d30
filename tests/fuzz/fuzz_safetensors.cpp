#include "moekit/checkpoint/safetensors.h"
#include "tests/fuzz/input.h"

// The header, and every tensor as stored and converted.
extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace moekit;
  const auto file = fuzz::as_file(data, size);
  return fuzz::read_untrusted([&] {
    const checkpoint::MappedTensors tensors(file);
    for (const auto& name : tensors.names()) {
      const auto codes = tensors.read_codes(name);
      if (codes.numel() > 0) codes.reshape({-1})[codes.numel() - 1].item();
      fuzz::read_untrusted([&] { tensors.read(name, torch::kFloat32); });
    }
  });
}
