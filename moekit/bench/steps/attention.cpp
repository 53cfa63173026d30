// Causal attention forward and backward, B x T with heads of 64, one thread: the kernel against
// libtorch's operations with a matrix of all scores, and against a product of large matrices by
// libtorch, which is as near to the machine's peak as libraries come. Operations count the pairs
// that a query sees: two products forward, five backward.
#include <benchmark/benchmark.h>
#include <torch/torch.h>

#include <cmath>

#include "moekit/nn/attention.h"
#include "moekit/tensor/arithmetic.h"

namespace {

constexpr int64_t kHeads = 8;
constexpr int64_t kDim = 64;

void attention_step(benchmark::State& state, bool fused) {
  moekit::tensor::start_arithmetic(1);
  const int64_t length = state.range(0);
  const auto drawn = [&] { return torch::randn({1, length, kHeads, kDim}).requires_grad_(); };
  const auto q = drawn();
  const auto k = drawn();
  const auto v = drawn();
  moekit::nn::AttentionSettings settings;
  settings.scale = 1 / std::sqrt(static_cast<double>(kDim));
  settings.fused = fused;
  const auto grad = torch::randn({1, length, kHeads, kDim});
  for (auto _ : state) {
    const auto out = moekit::nn::causal_attention(q, k, v, settings);
    benchmark::DoNotOptimize(torch::autograd::grad({out}, {q, k, v}, {grad}));
  }
  const double pairs = static_cast<double>(kHeads * length) * static_cast<double>(length + 1) / 2;
  state.counters["FLOP/s"] =
      benchmark::Counter(7 * 2 * pairs * kDim, benchmark::Counter::kIsIterationInvariantRate);
}

void attention_moekit(benchmark::State& state) { attention_step(state, /*fused=*/true); }
void attention_libtorch(benchmark::State& state) { attention_step(state, /*fused=*/false); }

void large_product(benchmark::State& state) {
  moekit::tensor::start_arithmetic(1);
  constexpr int64_t kSize = 1024;
  const auto a = torch::randn({kSize, kSize});
  const auto b = torch::randn({kSize, kSize});
  auto c = torch::empty({kSize, kSize});
  for (auto _ : state) torch::mm_out(c, a, b);
  state.counters["FLOP/s"] = benchmark::Counter(2.0 * kSize * kSize * kSize,
                                                benchmark::Counter::kIsIterationInvariantRate);
}

BENCHMARK(attention_moekit)->Arg(256)->Arg(1024)->Arg(4096)->Unit(benchmark::kMillisecond);
BENCHMARK(attention_libtorch)->Arg(256)->Arg(1024)->Arg(4096)->Unit(benchmark::kMillisecond);
BENCHMARK(large_product)->Unit(benchmark::kMillisecond);

}  // namespace
