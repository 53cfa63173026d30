#include "moekit/bench/machine.h"

#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cmath>

#include "moekit/bench/timing.h"
#include "moekit/kernels/ffn/ffn_kernels.h"

namespace moekit::bench {
namespace {

constexpr std::int64_t kPiece = std::int64_t{2} << 20;  // a huge page
constexpr std::int64_t kLeastPieces = 256;              // 512 MiB
constexpr double kMostBytes = 4e9;  // of a cache that says it is larger, memory would run out

/// Operations a second of one kind on all threads of a pool.
double peak(kernels::ThreadPool& pool, void (*spin)(std::int64_t), std::int64_t operations) {
  constexpr std::int64_t kRounds = 200'000;  // of 12 cycles with AVX-512, some 0.6 ms
  const std::int64_t threads = pool.num_threads();
  const double seconds =
      fastest(20, [&] { pool.run(threads, [&](std::int64_t, int) { spin(kRounds); }); });
  return static_cast<double>(threads * kRounds * operations) / seconds;
}

MachineLimits::Operations best_of(const MachineLimits::Operations& a,
                                  const MachineLimits::Operations& b) {
  return {std::max(a.f32_per_second, b.f32_per_second),
          std::max(a.bf16_per_second, b.bf16_per_second),
          std::max(a.int8_per_second, b.int8_per_second)};
}

}  // namespace

double MachineLimits::Operations::of(const kernels::FormatInfo& format) const {
  if (format.per_step == 1) return f32_per_second;
  return format.per_step == 2 ? bf16_per_second : int8_per_second;
}

double last_level_cache_bytes() {
  const long bytes = sysconf(_SC_LEVEL3_CACHE_SIZE);
  return bytes > 0 ? static_cast<double>(bytes) : 32e6;
}

MachineProbe::MachineProbe(double cache_bytes)
    : pieces_(std::max(kLeastPieces,
                       static_cast<std::int64_t>(std::ceil(std::min(4 * cache_bytes, kMostBytes) /
                                                           static_cast<double>(kPiece))))),
      memory_(static_cast<std::size_t>(kPiece * pieces_)) {}

MachineLimits MachineProbe::measure(kernels::ThreadPool& pool, const kernels::FormatPaths& paths) {
  MachineLimits limits;
  const auto operations_of = [&](const kernels::FormatPaths& of) {
    const auto& f32 = kernels::ffn_kernels(of.f32);
    const auto& bf16 = kernels::ffn_kernels(of.bf16);
    const auto& int8 = kernels::ffn_kernels(of.int8);
    return MachineLimits::Operations{peak(pool, f32.spin_f32, f32.spin_operations[0]),
                                     peak(pool, bf16.spin_bf16, bf16.spin_operations[1]),
                                     peak(pool, int8.spin_int8, int8.spin_operations[2])};
  };
  limits.path = operations_of(paths);
  limits.best = limits.path;
  // What the choice leaves to another set may be faster by less than it asks for.
  for (const auto isa : kernels::supported_isas()) {
    const auto& refused = kernels::known_choice().refused;
    if (isa == kernels::Isa::kReference || paths == kernels::FormatPaths(isa) ||
        std::find(refused.begin(), refused.end(), isa) != refused.end()) {
      continue;
    }
    limits.best = best_of(limits.best, operations_of(isa));
  }
  const kernels::FfnKernels& ffn = kernels::ffn_kernels(paths.f32);
  auto* data = reinterpret_cast<char*>(memory_.data());
  const auto bytes = static_cast<double>(kPiece * pieces_);
  limits.read_bytes_per_second =
      bytes / fastest(4, [&] { read(pool, paths.f32, kPiece * pieces_); });
  limits.write_bytes_per_second = bytes / fastest(2, [&] {
                                    pool.run(pieces_, [&](std::int64_t piece, int) {
                                      ffn.write(data + piece * kPiece, kPiece);
                                    });
                                  });
  return limits;
}

void MachineProbe::read(kernels::ThreadPool& pool, kernels::Isa isa, std::int64_t bytes) {
  constexpr std::int64_t kShare = 256 << 10;  // some 20 us: threads end together
  const kernels::FfnKernels& ffn = kernels::ffn_kernels(isa);
  const auto* data = reinterpret_cast<const char*>(memory_.data());
  const std::int64_t all = kPiece * pieces_;
  std::atomic<std::uint32_t> sum{0};
  pool.run((bytes + kShare - 1) / kShare, [&](std::int64_t share, int) {
    const std::int64_t at = (next_ + share * kShare) % all;  // of whole shares
    sum.fetch_add(ffn.read(data + at, std::min(kShare, bytes - share * kShare)),
                  std::memory_order_relaxed);
  });
  next_ = (next_ + (bytes + kShare - 1) / kShare * kShare) % all;
  sum_ += sum.load();
}

MachineLimits best_of(const MachineLimits& a, const MachineLimits& b) {
  return {best_of(a.path, b.path), best_of(a.best, b.best),
          std::max(a.read_bytes_per_second, b.read_bytes_per_second),
          std::max(a.write_bytes_per_second, b.write_bytes_per_second)};
}

}  // namespace moekit::bench
