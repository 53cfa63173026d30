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
  EXPECT_GT(limits.path.f32_per_second, 1e8);
  EXPECT_GT(limits.path.bf16_per_second, 1e8);
  EXPECT_GT(limits.path.int8_per_second, 1e8);
  // Twice and four times a float's at best, and half as much again for what the clock does between
  // the measurements: more means that the compiler left products out.
  EXPECT_LT(limits.path.bf16_per_second, 3 * limits.path.f32_per_second);
  EXPECT_LT(limits.path.int8_per_second, 6 * limits.path.f32_per_second);
  EXPECT_GE(limits.best.f32_per_second, limits.path.f32_per_second);
  EXPECT_GE(limits.best.bf16_per_second, limits.path.bf16_per_second);
  EXPECT_GE(limits.best.int8_per_second, limits.path.int8_per_second);
  EXPECT_GT(limits.read_bytes_per_second, 1e7);
  EXPECT_GT(limits.write_bytes_per_second, 1e7);
  EXPECT_THROW(probe.measure(pool, kernels::Isa::kReference), ArgumentError);
}

TEST(Machine, TheBestPathIsThatOfAnySet) {
  auto sets = kernels::supported_isas();
  if (sets.size() < 3) GTEST_SKIP() << "this machine has one instruction set";
  kernels::ThreadPool pool(1);
  MachineProbe probe(1);
  // Of the slowest set's path: what the fastest one reaches is the best for all that.
  const auto limits = probe.measure(pool, sets[sets.size() - 2]);
  const auto fastest = probe.measure(pool, sets.front());
  EXPECT_GT(limits.best.int8_per_second, 0.7 * fastest.path.int8_per_second);
}

}  // namespace
}  // namespace moekit::bench
