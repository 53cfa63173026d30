// Every case that Hugging Face's tokenizers 0.23 wrote down, of five tokenizers and GPT-2's own.
#include <gtest/gtest.h>

#include <filesystem>

#include "moekit/core/json.h"
#include "moekit/text/tokenizer.h"

namespace moekit::text {
namespace {
namespace fs = std::filesystem;

using Ids = std::vector<std::int32_t>;

void expect_cases(const Tokenizer& tokenizer, const fs::path& cases_file) {
  const Json cases = read_json(cases_file)["cases"];
  ASSERT_FALSE(cases.empty());
  std::size_t passed = 0;
  for (const Json& item : cases) {
    const auto text = item["text"].get<std::string>();
    const auto ids = item["ids"].get<Ids>();
    const auto special =
        item["ids_with_special"].is_null() ? ids : item["ids_with_special"].get<Ids>();
    const auto encoded = tokenizer.encode(text);
    const auto with_special = tokenizer.encode(text, true);
    const auto decoded = tokenizer.decode(ids);
    const auto without_special = tokenizer.decode(ids, true);
    EXPECT_EQ(encoded, ids) << item["text"];
    EXPECT_EQ(with_special, special) << item["text"];
    EXPECT_EQ(decoded, item["decoded"].get<std::string>()) << item["text"];
    EXPECT_EQ(without_special, item["decoded_skip_special"].get<std::string>()) << item["text"];
    passed += static_cast<std::size_t>(encoded == ids && with_special == special &&
                                       decoded == item["decoded"] &&
                                       without_special == item["decoded_skip_special"]);
  }
  std::printf("%s: %zu of %zu cases\n", cases_file.parent_path().filename().c_str(), passed,
              cases.size());
}

class ReferenceTokenizer : public testing::TestWithParam<const char*> {};

TEST_P(ReferenceTokenizer, GivesTheSameIdsAndTexts) {
  const fs::path folder = MOEKIT_TEST_REFERENCE;
  if (folder.empty())
    GTEST_SKIP() << "no reference files: configure with -DMOEKIT_REFERENCE_DIR=DIR";
  const fs::path own = folder / "tokenizers" / GetParam();
  expect_cases(Tokenizer::load(own), own / "cases.json");
}

INSTANTIATE_TEST_SUITE_P(All, ReferenceTokenizer,
                         testing::Values("bpe_gpt2", "bpe_llama3", "bpe_metaspace", "bpe_qwen",
                                         "unigram"),
                         [](const auto& test) { return std::string(test.param); });

TEST(ReferenceFiles, GiveTheIdsOfGpt2) {
  const fs::path folder = MOEKIT_TEST_REFERENCE;
  const fs::path files = fs::path(MOEKIT_TEST_DATA) / "gpt2-bpe";
  if (folder.empty() || !fs::exists(files)) {
    GTEST_SKIP() << "no reference files or no gpt2-bpe: configure with -DMOEKIT_REFERENCE_DIR=DIR "
                    "-DMOEKIT_DATA_DIR=DIR";
  }
  expect_cases(Tokenizer::load(files), folder / "tokenizers" / "gpt2" / "cases.json");
}

}  // namespace
}  // namespace moekit::text
