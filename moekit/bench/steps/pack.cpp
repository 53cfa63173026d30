// Packing and unpacking an expert of OLMoE's layer (2048 to 1024, gated, 25 MB of float32), on one
// thread, in bytes of float32 a second; `copy` is a memcpy of as many bytes. Experts take turns in
// 1.6 GB, so that sources come from memory.

#include <benchmark/benchmark.h>

#include <cstring>
#include <vector>

#include "moekit/kernels/ffn/packed_experts.h"

namespace {
namespace kernels = moekit::kernels;

constexpr kernels::FfnShape kShape{1, 2048, 1024, 2048, moekit::Activation::kSwiglu, false};
constexpr std::int64_t kMatrix = kShape.hidden_size * kShape.intermediate_size;
constexpr std::int64_t kExperts = 64;
constexpr std::int64_t kBytes = 3 * kMatrix * 4;

std::vector<float>& weights() {
  static std::vector<float> values = [] {
    std::vector<float> all(static_cast<std::size_t>(kExperts * 3 * kMatrix));
    std::uint32_t state = 1;  // what the values are does not change the time
    for (auto& value : all) {
      state = state * 1664525U + 1013904223U;
      value = static_cast<float>(state >> 8) * 0x1p-24F - 0.5F;
    }
    return all;
  }();
  return values;
}

void pack(benchmark::State& state, kernels::WeightFormat format) {
  kernels::PackedExperts packed(kShape, format);
  std::int64_t turn = 0;
  for (auto _ : state) {
    const float* from = weights().data() + turn++ % kExperts * 3 * kMatrix;
    packed.pack(0, {from, from + kMatrix, from + 2 * kMatrix});
  }
  state.SetBytesProcessed(state.iterations() * kBytes);
}

void unpack(benchmark::State& state, kernels::WeightFormat format) {
  kernels::PackedExperts packed(kShape, format);
  packed.pack(0, {weights().data(), weights().data() + kMatrix, weights().data() + 2 * kMatrix});
  std::int64_t turn = 0;
  for (auto _ : state) {
    float* to = weights().data() + turn++ % kExperts * 3 * kMatrix;
    packed.unpack(0, {to, to + kMatrix, to + 2 * kMatrix});
  }
  state.SetBytesProcessed(state.iterations() * kBytes);
}

void copy(benchmark::State& state) {
  std::vector<float> to(static_cast<std::size_t>(3 * kMatrix));
  weights();
  std::int64_t turn = 0;
  for (auto _ : state) {
    std::memcpy(to.data(), weights().data() + turn++ % kExperts * 3 * kMatrix, kBytes);
    benchmark::ClobberMemory();
  }
  state.SetBytesProcessed(state.iterations() * kBytes);
}

const bool kRegistered = [] {
  benchmark::RegisterBenchmark("pack/copy", copy);
  for (const auto& format : kernels::weight_formats()) {
    const auto name = std::string(format.name);
    benchmark::RegisterBenchmark(("pack/" + name).c_str(), pack, format.format);
    benchmark::RegisterBenchmark(("unpack/" + name).c_str(), unpack, format.format);
  }
  return true;
}();

}  // namespace
