#include "moekit/tasks/sparse_layer/task.h"

#include <gtest/gtest.h>

#include "moekit/core/error.h"
#include "moekit/core/files.h"

namespace moekit::sparse_layer {
namespace {
namespace fs = std::filesystem;

class SparseLayerTaskTest : public testing::Test {
 protected:
  void SetUp() override {
    folder_ = fs::temp_directory_path() / concat("moekit-sparse-", ::getpid());
    fs::remove_all(folder_);
    recipe_.values = {{"task", "sparse_layer"}};
  }
  void TearDown() override { fs::remove_all(folder_); }
  Json summary_of(const char* name) {
    EXPECT_EQ(task().run(recipe_, {folder_ / name, "", false, true}), run::RunStatus::kFinished);
    return task().inspect(folder_ / name, "", "");
  }
  fs::path folder_;
  ConfigTree recipe_;
};

TEST_F(SparseLayerTaskTest, FindsLayersToBeWhatTheyAreByDefinition) {
  for (const int experts : {4, 16}) {
    for (const int top_k : {1, 3}) {
      recipe_.values["layer"] = {{"num_experts", experts}, {"top_k", top_k}, {"tokens", 64}};
      const Json s = summary_of(concat(experts, "-", top_k).c_str());
      const auto of = [&](const char* part, const char* figure) {
        return s[part][figure].get<double>();
      };
      for (const char* figure : {"fused", "composed", "capacity"}) {
        EXPECT_LE(of("dropless", figure), 1e-5) << figure;
        EXPECT_GE(of("dropless", figure), 0) << figure;
      }
      EXPECT_LE(of("soft", "columns"), 1e-12);
      EXPECT_LE(of("soft", "rows"), 1e-12);
      EXPECT_LE(of("soft", "gradient"), 1e-6);
      EXPECT_GT(of("soft", "gradient"), 0);  // differences are never exact
      EXPECT_EQ(of("balanced", "uneven"), 0);
      EXPECT_LE(of("balanced", "gap"), 1);
      EXPECT_GE(of("balanced", "gap"), -1e-6);  // nothing is better than the optimum
      EXPECT_EQ(of("hash", "moved"), 0);
      EXPECT_GT(of("hash", "entropy"), 0.5);
      EXPECT_LT(of("hash", "entropy"), 1);
    }
  }
}

TEST_F(SparseLayerTaskTest, GivesTheSameFiguresForTheSameSeedAlone) {
  const Json a = summary_of("a");
  const Json b = summary_of("b");
  recipe_.values["seed"] = 2;
  const Json c = summary_of("c");
  for (const char* part : {"dropless", "soft", "balanced", "hash"}) {
    EXPECT_EQ(a[part], b[part]) << part;
    EXPECT_NE(a[part], c[part]) << part;
  }
}

TEST_F(SparseLayerTaskTest, RefusesWhatDoesNotFit) {
  const auto refusal = [&](const char* key, int value) -> std::string {
    auto recipe = recipe_;
    recipe.values["layer"][key] = value;
    try {
      task().check(recipe);
    } catch (const ArgumentError& error) {
      return error.what();
    }
    return "";
  };
  EXPECT_NE(refusal("top_k", 17).find("layer.top_k"), std::string::npos);
  EXPECT_NE(refusal("tokens", 33).find("layer.tokens"), std::string::npos);
  EXPECT_NE(refusal("num_experts", 1).find("layer.num_experts"), std::string::npos);
}

}  // namespace
}  // namespace moekit::sparse_layer
