#include "moekit/bench/machine.h"

#include <gtest/gtest.h>

#include "moekit/core/error.h"

namespace moekit::bench {
namespace {

TEST(Machine, MeasuresSomethingOfEveryKind) {
  if (kernels::supported_isas().size() == 1) GTEST_SKIP() << "only the reference runs here";
  kernels::ThreadPool pool(1);
  MachineProbe probe;
  const auto limits = probe.measure(pool, kernels::default_isa());
  EXPECT_GT(limits.f32_per_second, 1e8);
  EXPECT_GT(limits.bf16_per_second, 1e8);
  EXPECT_GT(limits.int8_per_second, 1e8);
  // Twice and four times a float's at best, and half as much again for what the clock does between
  // the measurements: more means that the compiler left products out.
  EXPECT_LT(limits.bf16_per_second, 3 * limits.f32_per_second);
  EXPECT_LT(limits.int8_per_second, 6 * limits.f32_per_second);
  EXPECT_GT(limits.read_bytes_per_second, 1e7);
  EXPECT_THROW(probe.measure(pool, kernels::Isa::kReference), ArgumentError);
}

}  // namespace
}  // namespace moekit::bench
