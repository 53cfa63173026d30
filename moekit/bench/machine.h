#pragma once

#include "moekit/kernels/common/format_paths.h"
#include "moekit/kernels/common/slab.h"
#include "moekit/kernels/common/thread_pool.h"
#include "moekit/kernels/ffn/weight_format.h"

namespace moekit::bench {

/// What a pool's threads reach together on this machine, measured. Operations count a multiply-add
/// as two.
struct MachineLimits {
  /// Of the three kinds of operands.
  struct Operations {
    double f32_per_second = 0;
    double bf16_per_second = 0;
    double int8_per_second = 0;
    /// Of the products that a format's weights go through.
    double of(const kernels::FormatInfo& format) const;
  };
  Operations path;                    ///< with the instructions that are used
  Operations best;                    ///< with those that are fastest on this machine
  double read_bytes_per_second = 0;   ///< of memory that no cache holds
  double write_bytes_per_second = 0;  ///< past the caches
};

/// Of the last-level cache, as the system says; 32 MB where it does not.
double last_level_cache_bytes();

/// Measures a machine again and again: on a shared one, memory can be twice as fast a minute later.
class MachineProbe {
 public:
  /// Takes the memory that is read and written: four times the cache, 512 MiB at least.
  explicit MachineProbe(double cache_bytes = last_level_cache_bytes());
  /// The best of several tries, about half a second in all: register-only multiply-adds with the
  /// instructions of each path, reading and writing with all threads at once. @throws ArgumentError
  /// for the reference, which has no instructions of its own.
  MachineLimits measure(kernels::ThreadPool& pool, const kernels::FormatPaths& paths);

  /// Reads so many bytes with all threads, from where the last call ended: what a step that must
  /// read as many weights takes at least, here and now. @param isa  not the reference
  void read(kernels::ThreadPool& pool, kernels::Isa isa, std::int64_t bytes);

 private:
  std::int64_t pieces_;    ///< of a huge page
  std::int64_t next_ = 0;  ///< byte that read() starts at
  kernels::Slab memory_;
  std::uint32_t sum_ = 0;  ///< of what was read, so that reading is not left out
};

/// The larger of each figure.
MachineLimits best_of(const MachineLimits& a, const MachineLimits& b);

}  // namespace moekit::bench
