#include <gtest/gtest.h>

#include "moekit/text/pre_tokenizer.h"
#include "tests/text/tiny.h"

namespace moekit::text {
namespace {

struct Collector : PieceSink {
  void take(Piece piece) override { texts.emplace_back(piece.text); }
  Texts texts;
};

Texts words(const std::string& json, const std::string& text, bool first = true) {
  Collector collector;
  part<PreTokenizerKinds, PreTokenizerSite>(json)->split({text, first}, collector);
  return collector.texts;
}

std::string split_at(const std::string& pattern, const std::string& behavior, bool invert = false) {
  return R"({"type": "Split", "pattern": )" + pattern + R"(, "behavior": ")" + behavior +
         R"(", "invert": )" + (invert ? "true}" : "false}");
}

TEST(Split, HasTheFiveBehaviors) {
  // The documentation's example of SplitDelimiterBehavior.
  const std::string text = "The-final--countdown";
  const std::string dash = R"({"String": "-"})";
  EXPECT_EQ(words(split_at(dash, "Removed"), text), (Texts{"The", "final", "countdown"}));
  EXPECT_EQ(words(split_at(dash, "Isolated"), text),
            (Texts{"The", "-", "final", "-", "-", "countdown"}));
  EXPECT_EQ(words(split_at(dash, "MergedWithPrevious"), text),
            (Texts{"The-", "final-", "-", "countdown"}));
  EXPECT_EQ(words(split_at(dash, "MergedWithNext"), text),
            (Texts{"The", "-final", "-", "-countdown"}));
  EXPECT_EQ(words(split_at(dash, "Contiguous"), text),
            (Texts{"The", "-", "final", "--", "countdown"}));
}

TEST(Split, TakesWhatLiesBetweenForMatchesIfInverted) {
  const std::string letters = R"({"Regex": "\\p{L}+"})";
  EXPECT_EQ(words(split_at(letters, "Removed", true), "ab, cd"), (Texts{"ab", "cd"}));
  EXPECT_EQ(words(split_at(letters, "MergedWithPrevious", true), "ab, cd"), (Texts{"ab, ", "cd"}));
}

TEST(Split, StandsEmptyMatches) {
  EXPECT_EQ(words(split_at(R"({"Regex": "x*"})", "Isolated"), "axb"), (Texts{"a", "x", "b"}));
  EXPECT_EQ(words(split_at(R"re({"Regex": "(?=b)"})re", "Removed"), "abab"),
            (Texts{"a", "ba", "b"}));
}

TEST(Digits, StandByThemselves) {
  EXPECT_EQ(words(R"({"type": "Digits", "individual_digits": false})", "Hey 123 friend!"),
            (Texts{"Hey ", "123", " friend!"}));
  EXPECT_EQ(words(R"({"type": "Digits", "individual_digits": true})", "a12\u00b2b"),
            (Texts{"a", "1", "2", "\u00b2", "b"}));
}

TEST(Metaspace, BeginsPiecesWithTheReplacement) {
  const char* always = R"({"type": "Metaspace", "replacement": "_", "prepend_scheme": "always"})";
  EXPECT_EQ(words(always, "Hey   friend!"), (Texts{"_Hey", "_", "_", "_friend!"}));
  EXPECT_EQ(words(always, " a"), (Texts{"_a"}));
  const char* first = R"({"type": "Metaspace", "replacement": "_", "prepend_scheme": "first"})";
  EXPECT_EQ(words(first, "a b"), (Texts{"_a", "_b"}));
  EXPECT_EQ(words(first, "a b", false), (Texts{"a", "_b"}));
  const char* never = R"({"type": "Metaspace", "replacement": "_", "add_prefix_space": false,
                          "split": false})";
  EXPECT_EQ(words(never, "a b"), (Texts{"a_b"}));
  EXPECT_EQ(refusal([] { words(R"({"type": "Metaspace", "replacement": "__"})", "a"); }),
            "part.json: part.replacement must be one character; got \"__\"");
}

TEST(ByteLevel, HasTheWordsOfGpt2) {
  EXPECT_EQ(words(R"({"type": "ByteLevel", "add_prefix_space": false})",
                  "Hello my friend, how's it  going?\n 12x"),
            (Texts{"Hello", " my", " friend", ",", " how", "'s", " it", " ", " going", "?", "\n",
                   " 12", "x"}));
  EXPECT_EQ(words(R"({"type": "ByteLevel", "use_regex": false})", "a b"), (Texts{" a b"}));
  EXPECT_EQ(words(R"({"type": "ByteLevel", "use_regex": false})", " a"), (Texts{" a"}));
}

TEST(PreTokenizerSequence, DividesThePiecesOfTheOneBefore) {
  const char* both = R"({"type": "Sequence", "pretokenizers": [
      {"type": "Split", "pattern": {"String": " "}, "behavior": "MergedWithNext", "invert": false},
      {"type": "Digits", "individual_digits": true},
      {"type": "ByteLevel", "add_prefix_space": false, "use_regex": false}]})";
  EXPECT_EQ(words(both, "ab 12"), (Texts{"ab", " ", "1", "2"}));
  EXPECT_TRUE((part<PreTokenizerKinds, PreTokenizerSite>(both)->byte_level()));
  EXPECT_EQ(
      refusal([] {
        words(R"({"type": "Sequence", "pretokenizers": [{"type": "ByteLevel"},
                                                              {"type": "Digits"}]})",
              "a");
      }),
      "part.json: part.pretokenizers[0]: ByteLevel must be the last of a sequence; it is 1 of 2");
}

TEST(PreTokenizers, NameWhatTheyDoNotKnow) {
  EXPECT_EQ(refusal([] { words(R"({"type": "Whitespace"})", "a"); }),
            "part.json: part.type: unknown pre-tokenizer \"Whitespace\"; known: ByteLevel, Split, "
            "Digits, Metaspace or Sequence");
  EXPECT_EQ(
      refusal([] { words(split_at(R"({"String": "-"})", "Kept"), "a"); }),
      "part.json: part.behavior must be Removed, Isolated, MergedWithPrevious, MergedWithNext "
      "or Contiguous; got \"Kept\"");
}

}  // namespace
}  // namespace moekit::text
