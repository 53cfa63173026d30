#include "moekit/metrics/routing_trace.h"
#include "tests/fuzz/input.h"

// A routing trace, and what is asked of its layers.
extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace moekit;
  const auto file = fuzz::as_file(data, size);
  return fuzz::read_untrusted([&] {
    const auto trace = metrics::read_trace(file);
    for (const auto& layer : trace.layers) {
      layer.mean_top_k();
      layer.active();
      layer.expert_index();
    }
  });
}
