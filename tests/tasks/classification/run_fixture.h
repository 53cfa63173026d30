#pragma once

#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <string>
#include <vector>

#include "moekit/core/config.h"
#include "moekit/core/files.h"
#include "moekit/run/run_folder.h"
#include "moekit/tasks/classification/config.h"

/// Short runs of the classification task in a folder of their own.
namespace moekit::classification {

/// A recipe of these overrides, on a base in TOML.
inline Config recipe(const std::string& toml, const std::vector<std::string>& set = {}) {
  ConfigTree tree = parse_toml(toml, "test");
  for (const auto& assignment : set) apply_override(tree, assignment);
  Config config;
  bind_config(tree, config);
  return config;
}

inline constexpr const char* kImages = R"(
data = { name = "synthetic-clusters", validation = 200 }
loss = { importance = 0.1 }
train = { epochs = 4, batch_size = 100, schedule = "cosine" }
[model]
num_experts = 4
expert = { kind = "mlp", intermediate_size = 8 }
router = { noise = "gaussian" }
)";

class RunTest : public testing::Test {
 protected:
  void SetUp() override {
    folder_ = std::filesystem::temp_directory_path() / concat("moekit-run-", ::getpid());
    std::filesystem::remove_all(folder_);
  }
  void TearDown() override { std::filesystem::remove_all(folder_); }
  run::RunOptions options(const std::string& name, bool resume = false) {
    return {folder_ / name, "", resume, true};
  }
  std::string bytes(const std::string& name, const std::string& file) {
    return read_file(folder_ / name / file);
  }
  std::filesystem::path folder_;
  Config config_ = recipe(kImages);
};

}  // namespace moekit::classification
