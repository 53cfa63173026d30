#include "moekit/bench/machine.h"

#include <algorithm>
#include <atomic>

#include "moekit/bench/timing.h"
#include "moekit/kernels/ffn/ffn_kernels.h"

namespace moekit::bench {
namespace {

constexpr std::int64_t kPiece = std::int64_t{2} << 20;  // a huge page
constexpr std::int64_t kPieces = 256;                   // 512 MiB: more than caches hold

}  // namespace

double MachineLimits::operations_per_second(const kernels::FormatInfo& format) const {
  if (format.per_step == 1) return f32_per_second;
  return format.per_step == 2 ? bf16_per_second : int8_per_second;
}

MachineProbe::MachineProbe() : memory_(static_cast<std::size_t>(kPiece * kPieces)) {}

MachineLimits MachineProbe::measure(kernels::ThreadPool& pool, const kernels::FormatPaths& paths) {
  const kernels::FfnKernels& ffn = kernels::ffn_kernels(paths.f32);
  const kernels::FfnKernels& bf16 = kernels::ffn_kernels(paths.bf16);
  const kernels::FfnKernels& int8 = kernels::ffn_kernels(paths.int8);
  const std::int64_t threads = pool.num_threads();
  MachineLimits limits;
  const auto peak = [&](void (*spin)(std::int64_t), std::int64_t operations) {
    constexpr std::int64_t kRounds = 200'000;  // of 12 cycles with AVX-512, some 0.6 ms
    const double seconds =
        fastest(20, [&] { pool.run(threads, [&](std::int64_t, int) { spin(kRounds); }); });
    return static_cast<double>(threads * kRounds * operations) / seconds;
  };
  limits.f32_per_second = peak(ffn.spin_f32, ffn.spin_operations[0]);
  limits.bf16_per_second = peak(bf16.spin_bf16, bf16.spin_operations[1]);
  limits.int8_per_second = peak(int8.spin_int8, int8.spin_operations[2]);
  const auto* data = reinterpret_cast<const char*>(memory_.data());
  std::atomic<std::uint32_t> sum{0};
  const double seconds = fastest(8, [&] {
    pool.run(kPieces, [&](std::int64_t piece, int) {
      sum.fetch_add(ffn.read(data + piece * kPiece, kPiece), std::memory_order_relaxed);
    });
  });
  limits.read_bytes_per_second = static_cast<double>(kPiece * kPieces) / seconds;
  return limits;
}

MachineLimits best_of(const MachineLimits& a, const MachineLimits& b) {
  return {std::max(a.f32_per_second, b.f32_per_second),
          std::max(a.bf16_per_second, b.bf16_per_second),
          std::max(a.int8_per_second, b.int8_per_second),
          std::max(a.read_bytes_per_second, b.read_bytes_per_second)};
}

}  // namespace moekit::bench
