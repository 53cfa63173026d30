#include "moekit/metrics/routing_trace.h"

#include <gtest/gtest.h>

#include <chrono>
#include <cmath>
#include <limits>

#include "moekit/checkpoint/memory_tensors.h"
#include "moekit/checkpoint/sharded.h"
#include "moekit/core/error.h"
#include "moekit/metrics/specialization.h"
#include "tests/support/growth.h"

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
  std::string refusal(const checkpoint::Metadata& metadata, const std::string& changed = {},
                      Change change = nullptr) {
    write_trace(path_, trace_);
    const auto file = checkpoint::open_tensors(path_);
    checkpoint::MemoryTensors copy({}, metadata);
    for (const auto& name : file->names()) {
      copy.add(name, name == changed ? change(file->read(name)) : file->read(name));
    }
    checkpoint::write_safetensors(path_, copy);
    try {
      read_trace(path_);
    } catch (const FormatError& error) {
      return error.what();
    }
    return "";
  }
  void expect_refused(const checkpoint::Metadata& metadata, const std::string& changed = {},
                      Change change = nullptr) {
    EXPECT_NE(refusal(metadata, changed, change), "");
  }
  fs::path path_;
  RoutingTrace trace_;
};

TEST(LayerTrace, Top1IsTheRoutersFirstChoiceAndTheLowestOfEqualOnes) {
  const auto probs = torch::tensor({{0.5F, 0.5F, 0.0F}, {0.5F, 0.5F, 0.0F}, {0.1F, 0.3F, 0.6F}});
  // Token 0 chose the second of two equal ones (its logits were apart), token 2's list is in no
  // order.
  const auto index = torch::tensor({{1, 0}, {0, 1}, {1, 2}}, torch::kLong);
  const auto want = torch::tensor({1, 0, 2}, torch::kLong);
  EXPECT_TRUE(torch::equal(make_layer_trace("", index, probs).top1(), want));
  // Without a first choice: the lowest.
  const LayerTrace list{"", torch::tensor({2}, torch::kLong), torch::tensor({0}, torch::kLong),
                        probs};
  EXPECT_TRUE(torch::equal(list.top1(), torch::tensor({0, 0, 2}, torch::kLong)));
}

TEST(LayerTrace, RefusesTablesThatDoNotFit) {
  const auto index = torch::zeros({4, 2}, torch::kLong);
  const auto probs = torch::full({4, 3}, 1.0 / 3);
  EXPECT_EQ(make_layer_trace("moe", index, probs).expert.numel(), 8);
  EXPECT_THROW(make_layer_trace("moe", index.unsqueeze(2), probs), ArgumentError);
  EXPECT_THROW(make_layer_trace("moe", index.flatten(), probs), ArgumentError);
  EXPECT_THROW(make_layer_trace("moe", index, probs.unsqueeze(2)), ArgumentError);
  EXPECT_THROW(make_layer_trace("moe", index, probs.flatten()), ArgumentError);
  EXPECT_THROW(make_layer_trace("moe", index.narrow(0, 0, 3), probs), ArgumentError);
}

TEST(TraceRecorder, WritesTheLowestOfEqualExpertsForARouterThatTakesAll) {
  TraceRecorder recorder;
  recorder.add({{"moe", nn::route(torch::zeros({3, 40})), torch::zeros({3, 1}), 0}});
  EXPECT_TRUE(torch::equal(recorder.finish()[0].expert, torch::zeros({3}, torch::kLong)));
}

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

TEST_F(RoutingTraceTest, CostsAsMuchAsThereAreLayers) {
  const auto trace = [&](int layers) {
    RoutingTrace many;
    for (int l = 0; l < layers; ++l) {
      many.layers.push_back(trace_.layers[0]);
      many.layers.back().name = concat("layer", l);
    }
    write_trace(path_, many);
    return path_;
  };
  EXPECT_LT(growth(100, trace, [](const fs::path& path) { read_trace(path); }), kLinearGrowth);
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

TEST_F(RoutingTraceTest, RefusesOtherFilesWithFileKeyAndValue) {
  const checkpoint::Metadata own{
      {"format", "moekit-routing-trace"}, {"version", "2"}, {"layers", "mixture"}};
  const auto refused = [&](const checkpoint::Metadata& metadata, const std::string& changed,
                           Change change, const std::string& text) {
    EXPECT_EQ(refusal(metadata, changed, change), path_.string() + ": " + text);
  };
  const auto with = [&](const char* key, const char* value) {
    auto changed = own;
    changed[key] = value;
    return changed;
  };
  refused(with("layers", "mixture,mixture"), "", nullptr,
          "metadata \"layers\" names layer \"mixture\" twice");
  refused(with("layers", "mixture,,other"), "", nullptr, "metadata \"layers\" names layer 1 \"\"");
  refused(with("version", "3"), "", nullptr, "metadata \"version\" is \"3\"; wanted 1 or 2");
  refused(with("format", "pt"), "", nullptr,
          "metadata \"format\" is \"pt\"; wanted \"moekit-routing-trace\"");
  refused({{"format", "moekit-routing-trace"}, {"version", "2"}}, "", nullptr,
          "metadata lack \"layers\"");
  refused(with("layers", ""), "", nullptr, "mixture.token is no tensor of a routing trace");
  refused(
      own, "mixture.expert", [](const auto& t) { return t.new_full(t.sizes(), -1); },
      "mixture.expert has -1 at [0]; wanted 0..2");
  refused(
      own, "mixture.token", [](const auto& t) { return t.new_full(t.sizes(), 5); },
      "mixture.token has 5 at [0]; wanted 0..4");
  refused(
      own, "mixture.token", [](const auto& t) { return t.unsqueeze(1); },
      "mixture.token must be [A] I64; got [6, 1] I64");
  refused(
      own, "mixture.probs",
      [](const auto& t) {
        auto out = t.clone();
        out[1][2] = std::nan("");
        return out;
      },
      "mixture.probs has nan at [1, 2]; wanted finite numbers of at least 0");
  refused(
      own, "mixture.probs", [](const auto& t) { return t.to(torch::kFloat64); },
      "mixture.probs must be [N, E] F32; got [5, 3] F64");
  refused(
      own, "mixture.probs", [](const auto& t) { return t.slice(1, 0, 0); },
      "mixture.probs must be of at least 1 expert; got [5, 0]");
  refused(
      own, "labels.label", [](const auto& t) { return t.new_full(t.sizes(), -100); },
      "labels.label has -100 at [0]; wanted 0..2147483647");
  refused(
      own, "labels.predicted", [](const auto& t) { return t.slice(0, 0, 4); },
      "labels.predicted has 4 tokens, others 5");
  refused(
      own, "expert_log_probs", [](const auto& t) { return t.slice(0, 0, 2); },
      "expert_log_probs is of 2 experts; layer mixture has 3");
  refused(
      own, "expert_log_probs", [](const auto& t) { return t.slice(0, 0, 0); },
      "expert_log_probs must be of at least 1 expert and 1 class; got [0, 5, 4]");
  refused(
      own, "expert_log_probs", [](const auto& t) { return t.slice(2, 0, 0); },
      "expert_log_probs must be of at least 1 expert and 1 class; got [3, 5, 0]");
  refused(
      own, "expert_log_probs",
      [](const auto& t) { return t - std::numeric_limits<float>::infinity(); },
      "expert_log_probs has -inf at [0, 0, 0]; wanted finite numbers");
}

/// Milliseconds for a trace of as many layers.
double time_of_layers(const std::filesystem::path& path, int64_t count) {
  RoutingTrace trace;
  for (int64_t l = 0; l < count; ++l) {
    trace.layers.push_back({concat("layer", l), torch::zeros({1}, torch::kLong),
                            torch::zeros({1}, torch::kLong), torch::ones({1, 1})});
  }
  write_trace(path, trace);
  const auto begin = std::chrono::steady_clock::now();
  EXPECT_EQ(read_trace(path).layers.size(), static_cast<size_t>(count));
  return std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - begin)
      .count();
}

TEST_F(RoutingTraceTest, TimeGrowsWithTheNumberOfLayersAndNotItsSquare) {
  time_of_layers(path_, 100);  // warm
  const double small = time_of_layers(path_, 1000);
  // 8 times the layers: 8 times the time, with room for a busy machine; squared it would be 64.
  EXPECT_LT(time_of_layers(path_, 8000), 24 * small);
}

TEST(TraceRecorder, RefusesOtherLayersThanBefore) {
  nn::LayerRouting a;
  a.name = "a";
  a.routing.token = a.routing.expert = torch::zeros({1}, torch::kLong);
  a.routing.probs = torch::ones({1, 1});
  auto b = a;
  b.name = "b";
  TraceRecorder recorder;
  recorder.add({a});
  EXPECT_THROW(recorder.add({a, b}), ArgumentError);
  EXPECT_THROW(recorder.add({b}), ArgumentError);
}

TEST_F(RoutingTraceTest, IsNotWrittenOverWhatIsNoFile) {
  fs::create_directories(path_);
  EXPECT_THROW(write_trace(path_, trace_), IoError);
  EXPECT_TRUE(fs::is_directory(path_));
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

TEST(SpecializationSummary, TellsPredictedSelectedAndTrueClassesApart) {
  // Two experts; the class that the whole predicts follows the expert, what the selected expert
  // says follows it half, the true class not at all.
  LayerTrace layer{"mixture", torch::arange(4), torch::tensor({0, 0, 1, 1}),
                   torch::tensor({{0.9, 0.1}, {0.8, 0.2}, {0.3, 0.7}, {0.4, 0.6}})};
  RoutingTrace trace;
  trace.labels = {{"predicted", torch::tensor({0, 0, 1, 1})},
                  {"selected", torch::tensor({0, 1, 1, 1})},
                  {"label", torch::tensor({0, 1, 0, 1})}};
  const auto summary = specialization_summary(layer, trace, 2, false);
  EXPECT_NEAR(summary["mutual_information"].get<double>(), 1, 1e-9);
  // H(E) + H(Y) - H(E, Y) of the counts {1, 1; 0, 2}: 1 + 0.811278 - 1.5.
  EXPECT_NEAR(summary["mutual_information_selected"].get<double>(), 0.3112781, 1e-6);
  EXPECT_NEAR(summary["mutual_information_true"].get<double>(), 0, 1e-9);
  EXPECT_FALSE(summary.contains("sample_entropy_top_k"));  // one expert a token
}

TEST(SpecializationSummary, OfSeveralExpertsAlsoTheirOwnShares) {
  // Tokens go to two of three experts.
  LayerTrace layer = make_layer_trace("mixture", torch::tensor({{0, 1}, {1, 2}}),
                                      torch::tensor({{0.4, 0.4, 0.2}, {0.5, 0.375, 0.125}}));
  const auto summary = specialization_summary(layer, {}, 2, false);
  // Shares {1/2, 1/2, 0} and {0, 3/4, 1/4}: 1 and 0.811278 bits; mean {1/4, 5/8, 1/8}.
  EXPECT_NEAR(summary["sample_entropy_top_k"].get<double>(), (1 + 0.8112781) / 2, 1e-6);
  EXPECT_NEAR(summary["usage_entropy_top_k"].get<double>(),
              0.25 * 2 + 0.625 * std::log2(1.6) + 0.125 * 3, 1e-6);
  EXPECT_GT(summary["sample_entropy"], summary["sample_entropy_top_k"]);
}

}  // namespace
}  // namespace moekit::metrics
