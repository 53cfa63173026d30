#pragma once

#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "moekit/core/error.h"
#include "moekit/core/files.h"
#include "moekit/run/report.h"
#include "moekit/tasks/language/task.h"

namespace moekit::language {

/// Two domains: counting words, and lines of letters.
inline void write_corpus(const std::filesystem::path& folder) {
  create_folders(folder / "letters");
  std::string words;
  const char* names[] = {"one", "two", "three", "four", "five"};
  for (int i = 0; i < 1200; ++i) words += concat(names[i % 5], i % 7 == 0 ? ".\n" : " ");
  write_file_atomic(folder / "words.txt", words);
  for (int d = 0; d < 40; ++d) {
    std::string lines;
    for (int i = 0; i < 12; ++i)
      lines +=
          std::string(static_cast<size_t>(3 + (i + d) % 5), static_cast<char>('a' + (d + i) % 26)) +
          "\n";
    write_file_atomic(folder / "letters" / concat("doc", d, ".txt"), lines);
  }
}

/// A folder with a small corpus and a recipe of a small model.
class LanguageTest : public testing::Test {
 protected:
  void SetUp() override {
    folder_ = std::filesystem::temp_directory_path() / concat("moekit-language-", ::getpid());
    std::filesystem::remove_all(folder_);
    write_corpus(folder_ / "corpus");
    recipe_ = parse_toml(concat(R"(
task = "language"
threads = 1
[data]
corpus = ")",
                                (folder_ / "corpus").string(), R"("
tokenizer = "bpe"
vocabulary = 300
validation_windows = 4
[model]
hidden_size = 16
num_layers = 2
num_heads = 2
context = 24
num_experts = 4
dense = { intermediate_size = 24 }
expert = { kind = "mlp", intermediate_size = 12 }
router = { kind = "scored", top_k = 2, bias_rate = 0.01 }
[train]
epochs = 3
epoch_steps = 5
batch_size = 4
warmup_steps = 2
lr = 1e-2
)"),
                         "test");
  }
  void TearDown() override { std::filesystem::remove_all(folder_); }
  ConfigTree with(const std::vector<std::string>& set) const {
    ConfigTree recipe = recipe_;
    for (const auto& assignment : set) apply_override(recipe, assignment);
    return recipe;
  }
  Config config(const std::vector<std::string>& set = {}) const {
    Config out;
    bind_config(with(set), out);
    return out;
  }
  std::string refusal(const std::vector<std::string>& set, bool run = false) {
    try {
      if (run) {
        task().run(with(set), {folder_ / "refused", "", false, true});
      } else {
        task().check(with(set));
      }
    } catch (const ArgumentError& error) {
      EXPECT_FALSE(std::filesystem::exists(folder_ / "refused"));
      return error.what();
    }
    return "";
  }
  Json trained(const std::string& name, const std::vector<std::string>& set = {}) {
    task().run(with(set), {folder_ / name, "", false, true});
    return run::read_summary(folder_ / name, Schema::any());
  }
  std::filesystem::path folder_;
  ConfigTree recipe_;
};

}  // namespace moekit::language
