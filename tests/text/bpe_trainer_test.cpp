#include "moekit/text/bpe_trainer.h"

#include <gtest/gtest.h>

#include <map>
#include <random>
#include <tuple>

#include "tests/text/tiny.h"

namespace moekit::text {
namespace {

BpeTrainerOptions options_of(std::int64_t learned, Texts special = {}) {
  BpeTrainerOptions options;
  options.vocabulary_size = 256 + learned + static_cast<std::int64_t>(special.size());
  options.special_tokens = std::move(special);
  return options;
}

Json trained(const BpeTrainerOptions& options, const Texts& texts) {
  BpeTrainer trainer(options);
  for (const auto& text : texts) trainer.add(text);
  return trainer.train();
}

TEST(BpeTrainer, LearnsTheMostFrequentPairsFirst) {
  // Words: "abab" twice, " abc" three times (of the texts " abc abc abc"), "cd" once.
  // ab: 2 * 2 + 3 = 7 -> 256. Then "256 256": 2, " 256": 3, "256 c": 3. Of the two with 3 the lower
  // left one is the space (32): " ab" -> 257, then " ab c" (3) -> 258, then "ab ab" (2) -> 259,
  // then "cd" (1).
  const Json document = trained(options_of(5, {"<end>"}), {"abab", "abab", " abc abc abc", "cd"});
  const Json merges = parse_json(R"([["a", "b"], ["\u0120", "ab"], ["\u0120ab", "c"], ["ab", "ab"],
                                     ["c", "d"]])",
                                 "");
  EXPECT_EQ(document["model"]["merges"], merges);
  const auto tokenizer = Tokenizer::parse(document, "trained");
  EXPECT_EQ(tokenizer.vocabulary_size(), 262);
  EXPECT_EQ(tokenizer.encode("abab abc<end>cda"), (Ids{259, 258, 261, 260, 'a'}));
  EXPECT_EQ(tokenizer.special_ids(), (Ids{261}));
}

TEST(BpeTrainer, CountsOverlappingPairsAsNeighbours) {
  // "aaa" has the pair aa twice and becomes aa a; "bcbcbc" in other texts has bc three times.
  const Json document = trained(options_of(2), {"aaa", "bcbc"});
  EXPECT_EQ(document["model"]["merges"], parse_json(R"([["a", "a"], ["b", "c"]])", ""));
}

TEST(BpeTrainer, KnowsATokenThatTwoPairsGive) {
  // ab (3), bc (3 - 1 left of "abc": 2): "abc" is ab c, and a bc in no word: no token twice.
  std::mt19937 generator(3);
  Texts texts;
  for (int i = 0; i < 60; ++i) {
    std::string text;
    for (int j = 0; j < 12; ++j) text += static_cast<char>('a' + generator() % 3);
    texts.push_back(text);
  }
  const Json document = trained(options_of(120), texts);
  const auto tokenizer = Tokenizer::parse(document, "trained");  // refuses an id or token twice
  EXPECT_EQ(tokenizer.vocabulary_size(), 376);
  for (const auto& text : texts) EXPECT_EQ(tokenizer.decode(tokenizer.encode(text)), text);
}

/// Learns by counting everything anew for each pair; words are given.
Json learned_plainly(std::vector<Texts> words, std::size_t count) {
  Json merges = Json::array();
  while (merges.size() < count) {
    std::map<std::pair<std::string, std::string>, int> pairs;
    for (const auto& word : words) {
      for (std::size_t i = 0; i + 1 < word.size(); ++i) ++pairs[{word[i], word[i + 1]}];
    }
    // Of the letters a and b, equally frequent pairs are in the order of ids: by age.
    static std::map<std::string, std::size_t> age;
    if (merges.empty()) age = {{"a", 0}, {"b", 1}};
    auto best = pairs.begin();
    for (auto at = pairs.begin(); at != pairs.end(); ++at) {
      const auto key = [&](const auto& pair) {
        return std::tuple(-pair.second, age.at(pair.first.first), age.at(pair.first.second));
      };
      if (key(*at) < key(*best)) best = at;
    }
    const auto [left, right] = best->first;
    age.emplace(left + right, 2 + merges.size());
    for (auto& word : words) {
      for (std::size_t i = 0; i + 1 < word.size(); ++i) {
        if (word[i] != left || word[i + 1] != right) continue;
        word[i] += right;
        word.erase(word.begin() + static_cast<std::ptrdiff_t>(i) + 1);
      }
    }
    merges.push_back(Json::array({left, right}));
  }
  return merges;
}

TEST(BpeTrainer, LearnsWhatCountingAnewLearns) {
  std::mt19937 generator(7);
  Texts texts;
  std::vector<Texts> words;
  for (int i = 0; i < 40; ++i) {
    std::string text;
    words.emplace_back();
    for (int j = 0; j < 20; ++j) {
      text += static_cast<char>('a' + generator() % 2);
      words.back().emplace_back(1, text.back());
    }
    texts.push_back(text);
  }
  EXPECT_EQ(trained(options_of(15), texts)["model"]["merges"], learned_plainly(words, 15));
}

TEST(BpeTrainer, GivesTheSameDocumentWhateverTheOrderOfTexts) {
  const Texts texts = {"the cat sat on the mat", "a cat and a hat", "\xff\xfe the end"};
  const Texts turned(texts.rbegin(), texts.rend());
  const auto options = options_of(12);
  const Json document = trained(options, texts);
  EXPECT_EQ(document, trained(options, texts));
  EXPECT_EQ(document, trained(options, turned));
  const auto tokenizer = Tokenizer::parse(document, "trained");
  for (const auto& text : texts) EXPECT_EQ(tokenizer.decode_bytes(tokenizer.encode(text)), text);
}

TEST(BpeTrainer, HasPatternsByName) {
  for (const auto words : {WordPattern::kGpt2, WordPattern::kLlama3, WordPattern::kQwen2}) {
    auto options = options_of(3);
    options.words = words;
    // GPT-2: one word, joined by three merges. Llama 3: 123 and 4, by two. Qwen 2: digits, by none;
    // what is left of three goes to the letters.
    const auto tokenizer = Tokenizer::parse(trained(options, {"1234", "1234", "wxyz"}), "trained");
    const auto numbers = tokenizer.encode("1234").size();
    EXPECT_EQ(numbers, words == WordPattern::kGpt2     ? 1U
                       : words == WordPattern::kLlama3 ? 2U
                                                       : 4U)
        << enum_name(words);
  }
}

TEST(BpeTrainer, RefusesWhatCannotBe) {
  EXPECT_EQ(
      refusal<ArgumentError>([] { trained(options_of(3), {"ab"}); }),
      "bpe trainer: the texts give 257 tokens, and vocabulary_size = 259 wants 259 beside special "
      "tokens");
  EXPECT_EQ(refusal<ArgumentError>([] {
              auto options = options_of(0, {"<a>"});
              options.vocabulary_size = 256;
              BpeTrainer{options};
            }),
            "bpe trainer.vocabulary_size must be at least 257, 256 bytes and the special tokens; "
            "got 256");
  EXPECT_THROW(BpeTrainer(options_of(0, {"<a>", "<a>"})), ArgumentError);
  EXPECT_THROW(BpeTrainer(options_of(0, {""})), ArgumentError);
  EXPECT_THROW(BpeTrainer(options_of(0, {"\xff"})), ArgumentError);
  EXPECT_EQ(refusal<ArgumentError>([] { trained(options_of(1, {"ab"}), {"ab"}); }),
            "bpe trainer.special_tokens: \"ab\" is a token that was learned");
}

}  // namespace
}  // namespace moekit::text
