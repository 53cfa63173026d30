#include "moekit/bench/merging_bench.h"

#include <gtest/gtest.h>

#include <limits>

#include "moekit/core/error.h"

namespace moekit::bench {
namespace {

MergingBenchOptions small_merging() {
  MergingBenchOptions options;
  options.num_experts = 3;
  options.hidden_size = 16;
  options.intermediate_size = 8;
  options.units = 12;
  options.enough = {2, 0};
  return options;
}

TEST(MergingBench, MeasuresAndCountsTheBytes) {
  const auto options = small_merging();
  const auto result = run_merging_bench(options);
  // Three matrices of 16 x 8 floats, and biases where the experts have any, of 3 experts and the
  // mean.
  EXPECT_GE(result.bytes, 4 * 3 * 16 * 8 * 4);
  EXPECT_LT(result.bytes, 4 * (3 * 16 * 8 + 2 * 8 + 16 + 1) * 4);
  EXPECT_EQ(result.runs, 2);
  EXPECT_GT(result.mean_ms, 0);
  EXPECT_GT(result.libtorch_ms, 0);
  EXPECT_GT(result.read_per_second, 0);
  EXPECT_GT(result.match_seconds, 0);
  const auto json = to_json(options, result);
  EXPECT_DOUBLE_EQ(json["share_of_read"].get<double>(), result.share_of_read());
  auto without = options;
  without.units = 0;
  EXPECT_EQ(run_merging_bench(without).match_seconds, 0);
}

TEST(MergingBench, RefusesByName) {
  const auto refused = [](auto change) {
    auto options = small_merging();
    change(options);
    EXPECT_THROW(check_options(options), ArgumentError);
  };
  refused([](auto& o) { o.num_experts = 1; });
  refused([](auto& o) { o.hidden_size = 0; });
  refused([](auto& o) { o.intermediate_size = 65537; });
  refused([](auto& o) { o.units = -1; });
  refused([](auto& o) { o.threads = 0; });
  refused([](auto& o) { o.enough.runs = 0; });
  refused([](auto& o) { o.enough.seconds = std::numeric_limits<double>::infinity(); });
  EXPECT_NO_THROW(check_options(small_merging()));
}

}  // namespace
}  // namespace moekit::bench
