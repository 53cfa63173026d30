#include "moekit/text/model.h"

#include <gtest/gtest.h>

#include <random>

#include "moekit/text/bpe_trainer.h"
#include "tests/support/growth.h"
#include "tests/text/tiny.h"

namespace moekit::text {
namespace {

constexpr const char* kAbc = R"("vocab": {"a": 0, "b": 1, "c": 2, "bc": 3, "ab": 4, "abc": 5}, )"
                             R"("merges": ["b c", "a b", "a bc"])";

std::string bpe(const std::string& members) {
  return R"("model": {"type": "BPE", )" + members + "}";
}

TEST(Bpe, MergesTheEarliestLearnedPairFirst) {
  const auto tokenizer = tiny(bpe(kAbc));
  // bc comes before ab, and then a bc.
  EXPECT_EQ(tokenizer.encode("abc"), (Ids{5}));
  EXPECT_EQ(tokenizer.encode("abab"), (Ids{4, 4}));
  EXPECT_EQ(tokenizer.encode("cabbc"), (Ids{2, 4, 3}));
  EXPECT_EQ(tokenizer.encode(""), (Ids{}));
}

TEST(Bpe, MergesTheLeftmostOfEqualPairs) {
  const auto tokenizer = tiny(bpe(R"("vocab": {"a": 0, "aa": 1}, "merges": [["a", "a"]])"));
  EXPECT_EQ(tokenizer.encode("aaa"), (Ids{1, 0}));
}

TEST(Bpe, OfAPairGivenTwiceTakesTheLaterPlace) {
  const auto tokenizer = tiny(bpe(
      R"("vocab": {"a": 0, "b": 1, "c": 2, "ab": 3, "bc": 4}, "merges": ["a b", "b c", "a b"])"));
  EXPECT_EQ(tokenizer.encode("abc"), (Ids{0, 4}));
}

TEST(Bpe, TakesAWordThatIsATokenWithoutMerges) {
  const std::string vocab = R"("vocab": {"a": 0, "b": 1, "ab": 2}, "merges": [])";
  EXPECT_EQ(tiny(bpe(vocab)).encode("ab"), (Ids{0, 1}));
  EXPECT_EQ(tiny(bpe(vocab + R"(, "ignore_merges": true)")).encode("ab"), (Ids{2}));
  EXPECT_EQ(tiny(bpe(vocab + R"(, "ignore_merges": true)")).encode("aba"), (Ids{0, 1, 0}));
}

TEST(Bpe, HasATokenForUnknownCharacters) {
  const std::string vocab = R"("vocab": {"a": 0, "<u>": 1}, "merges": [], "unk_token": "<u>")";
  EXPECT_EQ(tiny(bpe(vocab)).encode("xya\u00e9"), (Ids{1, 1, 0, 1}));
  EXPECT_EQ(tiny(bpe(vocab + R"(, "fuse_unk": true)")).encode("xya\u00e9"), (Ids{1, 0, 1}));
  const auto none = tiny(bpe(R"("vocab": {"a": 0}, "merges": [])"));
  EXPECT_EQ(refusal<ArgumentError>([&] { none.encode("a\u00e9"); }),
            "no token for \"\u00e9\", and the model has no unk_token");
}

TEST(Bpe, FallsBackToBytes) {
  const std::string vocab =
      R"("vocab": {"a": 0, "<0xC3>": 1, "<0xA9>": 2, "<u>": 3}, "merges": [], "unk_token": "<u>",
         "byte_fallback": true)";
  EXPECT_EQ(tiny(bpe(vocab)).encode("a\u00e9\u00e8"), (Ids{0, 1, 2, 3}));  // A8 has none
}

TEST(Bpe, RefusesWhatItDoesNotDo) {
  const auto fault = [](const std::string& members) { return refusal_of(bpe(members)); };
  const std::string vocab = R"("vocab": {"a": 0, "b": 1, "ab": 2}, )";
  EXPECT_EQ(fault(R"("vocab": {}, "merges": [])"),
            "tiny.json: model.vocab must be an object of ids, not empty; got an object");
  EXPECT_EQ(fault(R"("merges": [])"),
            "tiny.json: model.vocab must be an object of ids, not empty; got null");
  EXPECT_EQ(fault(R"("vocab": {"a": 0, "b": 0}, "merges": [])"),
            "tiny.json: model.vocab: \"b\" has the id 0, which is that of \"a\"");
  EXPECT_EQ(fault(R"("vocab": {"a": -1}, "merges": [])"),
            "tiny.json: model.vocab.a must be a whole number from 0 to 4194303; got -1");
  EXPECT_EQ(fault(R"("vocab": {"a": 4194304}, "merges": [])"),
            "tiny.json: model.vocab.a must be a whole number from 0 to 4194303; got 4194304");
  EXPECT_EQ(fault(vocab + R"("merges": ["a b", "a c"])"),
            "tiny.json: model.merges[1]: \"c\" is no token of vocab");
  EXPECT_EQ(fault(vocab + R"("merges": ["b a"])"),
            "tiny.json: model.merges[0]: \"ba\" is no token of vocab");
  EXPECT_EQ(fault(vocab + R"("merges": ["ab"])"),
            "tiny.json: model.merges[0] must be two tokens: \"a b\" or [\"a\", \"b\"]; got \"ab\"");
  EXPECT_EQ(
      fault(vocab + R"("merges": [["a", "b", "c"]])"),
      "tiny.json: model.merges[0] must be two tokens: \"a b\" or [\"a\", \"b\"]; got a list of 3");
  EXPECT_EQ(fault(vocab + R"("merges": [], "dropout": 0.1)"),
            "tiny.json: model.dropout must be null: encoding does not draw; got 0.1");
  EXPECT_EQ(fault(vocab + R"("merges": [], "end_of_word_suffix": "</w>")"),
            "tiny.json: model.end_of_word_suffix must be null or empty; got \"</w>\"");
  EXPECT_EQ(fault(vocab + R"("merges": [], "unk_token": "<unk>")"),
            "tiny.json: model.unk_token must be a token of vocab, or null; got \"<unk>\"");
  EXPECT_EQ(fault(vocab + R"("merges": [], "continuing_subword_prefix": "")"), "");
}

/// Merges by going through the whole word again and again.
Ids merged_plainly(const Json& model, const std::string& word) {
  Texts tokens;
  for (const char c : word) tokens.emplace_back(1, c);
  for (;;) {
    std::size_t best = model["merges"].size();
    std::size_t at = 0;
    for (std::size_t i = 0; i + 1 < tokens.size(); ++i) {
      for (std::size_t rank = 0; rank < best; ++rank) {
        const Json& merge = model["merges"][rank];
        if (merge[0] == tokens[i] && merge[1] == tokens[i + 1]) {
          best = rank;
          at = i;
        }
      }
    }
    if (best == model["merges"].size()) break;
    tokens[at] += tokens[at + 1];
    tokens.erase(tokens.begin() + static_cast<std::ptrdiff_t>(at) + 1);
  }
  Ids ids;
  for (const auto& token : tokens) ids.push_back(model["vocab"][token].get<std::int32_t>());
  return ids;
}

TEST(Bpe, GivesTheSameIdsForWordsOfAnyLength) {
  std::mt19937 generator(1);
  const auto letters = [&](std::size_t count) {
    std::string text;
    while (text.size() < count) text += "aaabbc"[generator() % 6];
    return text;
  };
  BpeTrainerOptions options;
  options.vocabulary_size = 256 + 40;
  options.special_tokens.clear();
  BpeTrainer trainer(options);
  for (int i = 0; i < 100; ++i) trainer.add(letters(30));
  const Json document = trainer.train();
  const auto tokenizer = Tokenizer::parse(document, "trained");
  for (const std::size_t length : {1, 2, 3, 5, 17, 47, 48, 49, 50, 100, 300}) {
    const std::string word = letters(length);
    EXPECT_EQ(tokenizer.encode(word), merged_plainly(document["model"], word)) << word;
  }
}

TEST(Bpe, DividesTextsWithoutWordsWhereNoMergeJoins) {
  // No merge joins at "b|_": the parts are found again, and the ids are those of the whole.
  const std::string members =
      R"("vocab": {"a": 0, "b": 1, "_": 2, "ab": 3, "_a": 4, "_ab": 5, "<u>": 6},
         "merges": ["a b", "_ ab", "_ a"], "unk_token": "<u>", "fuse_unk": true)";
  const auto tokenizer = tiny(bpe(members));
  EXPECT_EQ(tokenizer.encode("ab_ab_a_ab"), (Ids{3, 5, 4, 5}));
  EXPECT_EQ(tokenizer.encode("abxy_abx_"), (Ids{3, 6, 5, 6, 2}));
}

TEST(Bpe, TakesAWordOfAnyLengthInLittleMoreThanLinearTime) {
  const std::string vocab = R"("vocab": {"a": 0, "aa": 1, "aaaa": 2, "aaaaaaaa": 3}, )";
  const auto tokenizer = tiny(bpe(vocab + R"("merges": ["a a", "aa aa", "aaaa aaaa"])"));
  const double grown = growth(
      50'000, [](int n) { return std::string(static_cast<std::size_t>(n), 'a'); },
      [&](const std::string& text) { tokenizer.encode(text); });
  EXPECT_LT(grown, kLinearGrowth);
  EXPECT_EQ(tokenizer.encode(std::string(1'000'007, 'a')).size(), 125'000U + 3U);
}

std::string unigram(const std::string& members) {
  return R"("model": {"type": "Unigram", )" + members + "}";
}

TEST(Unigram, TakesTheMostProbableTokens) {
  // The documentation's example of Unigram::encode.
  const auto tokenizer =
      tiny(unigram(R"("unk_id": 0, "vocab": [["<unk>", 0.0], ["a", 0.0], ["b", 0.0],
      ["c", 0.0], ["d", 0.0], ["cd", 1.0], ["ab", 2.0], ["abc", 5.0], ["abcd", 10.0]])"));
  EXPECT_EQ(tokenizer.encode("abcdacdxx"), (Ids{8, 1, 5, 0}));
}

TEST(Unigram, OfEqualSumsTakesTheLongerLastToken) {
  // "aaa" as aa a or a aa: both are -3. The step to the end is first tried from 1, and stays.
  const auto tokenizer = tiny(unigram(R"("unk_id": null, "vocab": [["a", -1], ["aa", -2]])"));
  EXPECT_EQ(tokenizer.encode("aaa"), (Ids{0, 1}));
  EXPECT_EQ(tokenizer.encode("aa"), (Ids{1}));
}

TEST(Unigram, FallsBackToBytesOrRefuses) {
  const std::string vocab =
      R"("vocab": [["<unk>", 0], ["a", -1], ["<0xC3>", -9], ["<0xA9>", -9]], )";
  EXPECT_EQ(tiny(unigram(vocab + R"("unk_id": 0, "byte_fallback": true)")).encode("a\u00e9"),
            (Ids{1, 2, 3}));
  EXPECT_EQ(tiny(unigram(vocab + R"("unk_id": 0)")).encode("a\u00e9\u00e8a"), (Ids{1, 0, 1}));
  const auto none = tiny(unigram(vocab + R"("unk_id": null)"));
  EXPECT_EQ(refusal<ArgumentError>([&] { none.encode("xa"); }),
            "no token for \"x\", and the model has no unk_id");
}

TEST(Unigram, RefusesWrongVocabularies) {
  const auto fault = [](const std::string& members) { return refusal_of(unigram(members)); };
  EXPECT_EQ(fault(R"("vocab": [])"),
            "tiny.json: model.vocab must be a list of [token, score], not empty; got a list of 0");
  EXPECT_EQ(fault(R"("vocab": [["a", 0], ["b"]])"),
            "tiny.json: model.vocab[1] must be [token, score]; got a list of 1");
  EXPECT_EQ(fault(R"("vocab": [["a", 0], ["a", 1]])"),
            "tiny.json: model.vocab[1]: \"a\" has the ids 0 and 1");
  EXPECT_EQ(fault(R"("vocab": [["a", 0]], "unk_id": 1)"),
            "tiny.json: model.unk_id must be an id below 1, or null; got 1");
}

TEST(Models, AreBpeWhereAnOldFileNamesNoneAndHasMerges) {
  const auto tokenizer =
      tiny(R"("model": {"unk_token": "", "end_of_word_suffix": "", )" + std::string(kAbc) + "}");
  EXPECT_EQ(tokenizer.encode("abc"), (Ids{5}));
}

TEST(Models, NameWhatTheyDoNotKnow) {
  EXPECT_EQ(refusal_of(R"("model": {"type": "WordPiece"})"),
            "tiny.json: model.type: unknown model \"WordPiece\"; known: BPE or Unigram");
  EXPECT_EQ(refusal_of(R"("version": "1.0")"),
            "tiny.json: model must be an object with a type; got null");
}

}  // namespace
}  // namespace moekit::text
