#include "moekit/metrics/routing_trace.h"

#include <gtest/gtest.h>

#include "moekit/checkpoint/memory_tensors.h"
#include "moekit/checkpoint/sharded.h"
#include "moekit/core/error.h"
#include "moekit/metrics/specialization.h"

namespace moekit::metrics {
namespace {
namespace fs = std::filesystem;

class RoutingTraceTest : public testing::Test {
 protected:
  void SetUp() override {
    path_ = fs::temp_directory_path() / concat("moekit-trace-", ::getpid(), ".safetensors");
    torch::manual_seed(1);
    trace_.layers.push_back({"mixture", torch::tensor({0, 0, 2, 3, 4, 4}, torch::kLong),
                             torch::randint(3, {6}, torch::kLong),
                             torch::softmax(torch::randn({5, 3}), 1)});
    trace_.labels["label"] = torch::randint(4, {5}, torch::kLong);
    trace_.labels["predicted"] = trace_.labels["label"].clone();
    trace_.expert_log_probs = torch::randn({3, 5, 4});
  }
  void TearDown() override { fs::remove(path_); }
  using Change = torch::Tensor (*)(const torch::Tensor&);
  /// Writes the trace, puts other metadata or another tensor into the file, and reads it back.
  void expect_refused(const checkpoint::Metadata& metadata, const std::string& changed = {},
                      Change change = nullptr) {
    write_trace(path_, trace_);
    const auto file = checkpoint::open_tensors(path_);
    checkpoint::MemoryTensors copy({}, metadata);
    for (const auto& name : file->names()) {
      copy.add(name, name == changed ? change(file->read(name)) : file->read(name));
    }
    checkpoint::write_safetensors(path_, copy);
    EXPECT_THROW(read_trace(path_), FormatError);
  }
  fs::path path_;
  RoutingTrace trace_;
};

TEST_F(RoutingTraceTest, RoundTripsAndGivesTheSameFiguresAsLive) {
  write_trace(path_, trace_);
  const auto back = read_trace(path_);
  ASSERT_EQ(back.layers.size(), 1U);
  EXPECT_TRUE(torch::equal(back.layers[0].probs, trace_.layers[0].probs));
  EXPECT_TRUE(torch::equal(back.layers[0].token, trace_.layers[0].token));
  EXPECT_TRUE(torch::equal(back.layers[0].expert, trace_.layers[0].expert));
  EXPECT_TRUE(torch::equal(back.expert_log_probs, trace_.expert_log_probs));
  EXPECT_EQ(specialization_summary(back.layers[0], back, 4, false),
            specialization_summary(trace_.layers[0], trace_, 4, false));
}

TEST_F(RoutingTraceTest, ReadsTheFirstVersionWithKExpertsAToken) {
  checkpoint::MemoryTensors file;
  file.set_metadata({{"format", "moekit-routing-trace"}, {"version", "1"}, {"layers", "moe"}});
  const auto index = torch::tensor({{2, 0}, {1, 2}}, torch::kLong);
  file.add("moe.expert_index", index);
  file.add("moe.probs", torch::full({2, 3}, 1.0F / 3));
  checkpoint::write_safetensors(path_, file);
  const auto layer = read_trace(path_).layers.at(0);
  EXPECT_TRUE(torch::equal(layer.expert_index(), index));
  EXPECT_EQ(layer.mean_top_k(), 2.0);
  EXPECT_TRUE(torch::equal(layer.active(),
                           torch::tensor({{1, 0, 1}, {0, 1, 1}}, torch::kLong).to(torch::kBool)));
}

TEST_F(RoutingTraceTest, HasNoTableOfExpertsWhereTokensDifferInTheirNumber) {
  EXPECT_FALSE(trace_.layers[0].expert_index().defined());
  EXPECT_NEAR(trace_.layers[0].mean_top_k(), 1.2, 1e-12);
}

TEST_F(RoutingTraceTest, RefusesFilesThatAreNotOne) {
  const checkpoint::Metadata own{
      {"format", "moekit-routing-trace"}, {"version", "2"}, {"layers", "mixture"}};
  auto changed = own;
  expect_refused({});
  changed["version"] = "9";
  expect_refused(changed);
  changed = own;
  changed["layers"] = "mixture,other";
  expect_refused(changed);
  expect_refused(own, "mixture.expert", [](const auto& t) { return t.new_full(t.sizes(), 3); });
  expect_refused(own, "mixture.token", [](const auto& t) { return t.new_full(t.sizes(), 5); });
  expect_refused(own, "mixture.expert", [](const auto& t) { return t.slice(0, 1); });
  expect_refused(own, "mixture.expert", [](const auto& t) { return t.to(torch::kInt); });
  expect_refused(own, "labels.label", [](const auto& t) { return t.slice(0, 0, 4); });
  expect_refused(own, "labels.label", [](const auto& t) { return t.new_full(t.sizes(), -1); });
}

TEST_F(RoutingTraceTest, HardRoutingTakesTheHistogramOfTheArgmax) {
  trace_.layers[0].probs = torch::tensor(
      {{0.6, 0.4, 0.0}, {0.6, 0.4, 0.0}, {0.4, 0.6, 0.0}, {0.4, 0.6, 0.0}, {0.6, 0.4, 0.0}});
  const auto hard = specialization_summary(trace_.layers[0], trace_, 4, true);
  EXPECT_EQ(hard["sample_entropy"], 0.0);
  EXPECT_NEAR(hard["usage"][0].get<double>(), 0.6, 1e-9);
  const auto soft = specialization_summary(trace_.layers[0], trace_, 4, false);
  EXPECT_NEAR(soft["usage"][0].get<double>(), 0.52, 1e-6);
}

}  // namespace
}  // namespace moekit::metrics
