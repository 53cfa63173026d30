#include "moekit/bench/merged_bench.h"

#include <gtest/gtest.h>

#include "moekit/core/error.h"

namespace moekit::bench {
namespace {

MergedBenchOptions small_merged() {
  MergedBenchOptions options;
  options.sequences = {2, 1};
  options.lengths = {1, 3};
  options.experts_chosen = {1, 4};
  options.num_experts = 4;
  options.hidden_size = 8;
  options.intermediate_size = 6;
  options.enough = {2, 0};
  return options;
}

TEST(MergedBench, MeasuresEverySizeOnBothPaths) {
  for (const auto pass : {Pass::kForward, Pass::kTrain}) {
    auto options = small_merged();
    options.pass = pass;
    size_t seen = 0;
    const auto rows = run_merged_bench(
        options, [&](const MergedBenchRow&) { ++seen; }, [] { return true; });
    ASSERT_EQ(rows.size(), 8U);
    EXPECT_EQ(seen, 8U);
    for (const auto& row : rows) {
      EXPECT_GT(row.routed_ms, 0);
      EXPECT_GT(row.merged_ms, 0);
      EXPECT_EQ(row.runs, 2);
    }
    const auto json = to_json(options, rows);
    EXPECT_EQ(json["rows"].size(), 8U);
    EXPECT_EQ(json["crossovers"].size(), 4U);
  }
  EXPECT_TRUE(run_merged_bench(small_merged(), {}, [] { return false; }).empty());
}

MergedBenchRow row_of(std::int64_t length, double ratio) {
  MergedBenchRow row{8, length, 4, 1};
  row.routed_ms = ratio;
  row.merged_ms = 1;
  return row;
}

TEST(MergedBench, FindsWhereMergingBecomesFaster) {
  const auto between = crossovers({row_of(8, 0.5), row_of(32, 0.9), row_of(128, 1.5)});
  ASSERT_EQ(between.size(), 1U);
  EXPECT_EQ(between[0].last_slower, 32);
  EXPECT_EQ(between[0].first_faster, 128);
  EXPECT_EQ(crossovers({row_of(8, 1.5), row_of(32, 2)})[0].first_faster, 8);
  EXPECT_EQ(crossovers({row_of(8, 1.5), row_of(32, 2)})[0].last_slower, 0);
  EXPECT_EQ(crossovers({row_of(8, 0.5), row_of(32, 1)})[0].first_faster, 0);
  // Slower again for longer ones: what comes before is not called the crossover.
  EXPECT_EQ(crossovers({row_of(8, 1.5), row_of(32, 0.9), row_of(64, 2)})[0].first_faster, 64);
}

TEST(MergedBench, RefusesWhatCannotBeMeasured) {
  const auto refuses = [](const auto& change) {
    auto options = small_merged();
    change(options);
    EXPECT_THROW(check_options(options), ArgumentError);
  };
  refuses([](auto& o) { o.experts_chosen = {5}; });
  refuses([](auto& o) { o.lengths = {}; });
  refuses([](auto& o) { o.sequences = {0}; });
  refuses([](auto& o) { o.hidden_size = -1; });
  refuses([](auto& o) { o.threads = 0; });
  refuses([](auto& o) { o.enough.seconds = -1; });
}

}  // namespace
}  // namespace moekit::bench
