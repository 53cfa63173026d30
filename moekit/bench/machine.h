#pragma once

#include "moekit/kernels/common/format_paths.h"
#include "moekit/kernels/common/slab.h"
#include "moekit/kernels/common/thread_pool.h"
#include "moekit/kernels/ffn/weight_format.h"

namespace moekit::bench {

/// What a pool's threads reach together on this machine, measured. Operations count a multiply-add
/// as two.
struct MachineLimits {
  double f32_per_second = 0;
  double bf16_per_second = 0;
  double int8_per_second = 0;
  double read_bytes_per_second = 0;  ///< of memory, from 512 MiB

  /// Of the products that a format's weights go through.
  double operations_per_second(const kernels::FormatInfo& format) const;
};

/// Measures a machine again and again: on a shared one, memory can be twice as fast a minute later.
class MachineProbe {
 public:
  MachineProbe();  ///< takes the 512 MiB that are read
  /// The best of several tries, about a fifth of a second in all: register-only multiply-adds with
  /// the instructions of each path, and reading with all threads at once. @throws ArgumentError for
  /// the reference, which has no instructions of its own.
  MachineLimits measure(kernels::ThreadPool& pool, const kernels::FormatPaths& paths);

 private:
  kernels::Slab memory_;
};

/// The larger of each figure.
MachineLimits best_of(const MachineLimits& a, const MachineLimits& b);

}  // namespace moekit::bench
