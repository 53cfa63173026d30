#include "moekit/bench/moe_bench.h"

#include <gtest/gtest.h>
#include <torch/types.h>

#include <cmath>

#include "moekit/core/error.h"
#include "moekit/metrics/routing_trace.h"

namespace moekit::bench {
namespace {

MoeBenchOptions quick() {
  MoeBenchOptions options;
  options.shape = "tiny";
  options.tokens = {3};
  options.enough = {2, 0};
  options.baselines = false;
  options.cache_bytes = 1e5;
  return options;
}

MoeBenchReport run(const MoeBenchOptions& options) {
  return run_moe_bench(options, {}, {}, [] { return true; });
}

TEST(MoeBench, ReportsEveryFormatAgainstTheMachine) {
  if (kernels::default_isa() == kernels::Isa::kReference) GTEST_SKIP() << "reference only";
  auto options = quick();
  options.routing = RoutingKind::kOne;
  const auto report = run(options);
  ASSERT_EQ(report.rows.size(), kernels::weight_formats().size());
  for (const auto& row : report.rows) {
    EXPECT_EQ(row.distinct_experts, 2) << row.format;  // all tokens to the same K = 2
    EXPECT_GE(row.runs, 2);
    EXPECT_GT(row.layers, 1);  // a tiny layer alone would stay in the cache
    EXPECT_GT(row.median_ms, 0);
    EXPECT_LE(row.p10_ms, row.median_ms);
    // 6 N K D F operations, by hand: 6 * 3 * 2 * 128 * 128.
    EXPECT_NEAR(row.operations_per_second * row.median_ms / 1e3, 589824, 1);
    EXPECT_GT(row.bound_ms, 0);
    EXPECT_GT(row.plain_read_ms, 0);
    EXPECT_GT(row.best_peak_fraction, 0);
    EXPECT_LE(row.best_peak_fraction, row.peak_fraction);
    // All tokens to the same two of 16 experts: they come back once a layer's turn.
    const double bits =
        kernels::format_info(kernels::parse_weight_format(row.format)).bits_per_weight;
    EXPECT_NEAR(row.reuse_bytes, static_cast<double>(row.layers) * 2 * 3 * 128 * 128 * bits / 8, 1);
    EXPECT_TRUE(row.ratios.empty());
  }
  const auto json = to_json(report);
  EXPECT_EQ(json["rows"].size(), report.rows.size());
  EXPECT_EQ(json["routing"], "one");
}

TEST(MoeBench, ComparesTrainingWithLibtorch) {
  auto options = quick();
  options.pass = Pass::kTrain;
  options.baselines = true;
  options.formats = {kernels::WeightFormat::kF32};
  const auto report = run(options);
  ASSERT_EQ(report.rows.size(), 1U);
  const auto& ratios = report.rows[0].ratios;
  ASSERT_GE(ratios.size(), 3U);
  EXPECT_EQ(ratios[0].first, "libtorch, module per expert");
  for (const auto& [name, ratio] : ratios) EXPECT_GT(ratio, 0) << name;
}

TEST(MoeBench, TakesRoutingFromATrace) {
  const auto path = std::filesystem::path(::testing::TempDir()) / "bench_trace.safetensors";
  metrics::RoutingTrace trace;
  const auto index = torch::tensor({0, 5, 5, 9}, torch::kLong).reshape({2, 2});
  trace.layers.push_back(metrics::make_layer_trace("layer", index, torch::full({2, 16}, 1.0 / 16)));
  trace.labels["label"] = torch::zeros({2}, torch::kLong);
  metrics::write_trace(path, trace);
  auto options = quick();
  options.routing = RoutingKind::kTrace;
  options.trace = path;
  options.tokens = {2};
  options.formats = {kernels::WeightFormat::kInt8};
  EXPECT_EQ(run(options).rows.at(0).distinct_experts, 3);
  options.shape = "olmoe";
  EXPECT_THROW(run(options), ArgumentError);  // 2 of 16 experts, not 8 of 64
}

TEST(MoeBench, RefusesWithTheValuesAndStopsWhenTold) {
  auto options = quick();
  options.tokens = {0};
  EXPECT_THROW(run(options), ArgumentError);
  options = quick();
  options.threads = {-1};
  EXPECT_THROW(run(options), ArgumentError);
  options = quick();
  options.pass = Pass::kTrain;
  options.formats = {kernels::WeightFormat::kInt8};
  EXPECT_THROW(run(options), ArgumentError);
  options = quick();
  options.routing = RoutingKind::kTrace;
  EXPECT_THROW(run(options), ArgumentError);
  options = quick();
  options.shape = "large";
  EXPECT_THROW(run(options), ArgumentError);
  for (const double never : {std::nan(""), HUGE_VAL, -HUGE_VAL, -1.0}) {
    options = quick();
    options.enough.seconds = never;
    EXPECT_THROW(run(options), ArgumentError);  // and does not measure for ever
    options = quick();
    options.cache_bytes = never;
    EXPECT_THROW(run(options), ArgumentError);
  }
  EXPECT_TRUE(run_moe_bench(quick(), {}, {}, [] { return false; }).rows.empty());
}

}  // namespace
}  // namespace moekit::bench
