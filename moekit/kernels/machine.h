#pragma once

#include "moekit/kernels/isa.h"
#include "moekit/kernels/thread_pool.h"
#include "moekit/kernels/weight_format.h"

namespace moekit::kernels {

/// What a pool's threads reach together on this machine, measured. Operations count a multiply-add
/// as two.
struct MachineLimits {
  double f32_per_second = 0;
  double bf16_per_second = 0;
  double int8_per_second = 0;
  double read_bytes_per_second = 0;  ///< of memory, from 512 MiB

  /// Of the products that a format's weights go through.
  double operations_per_second(const FormatInfo& format) const;
};

/// The best of several tries, about a second in all: register-only multiply-adds with the
/// instructions of `isa`, and reading with all threads at once. @throws ArgumentError for the
/// reference, which has no instructions of its own.
MachineLimits measure_machine(ThreadPool& pool, Isa isa);

}  // namespace moekit::kernels
