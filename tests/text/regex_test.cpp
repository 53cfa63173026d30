#include "moekit/text/regex.h"

#include <gtest/gtest.h>

#include "moekit/text/pattern.h"
#include "tests/text/tiny.h"

namespace moekit::text {
namespace {

const Place kPlace{"t.json", "pre_tokenizer.pattern.Regex"};

/// The matches of a pattern, as text.
Texts matches(const std::string& pattern, const std::string& text) {
  const Pattern compiled{Regex(pattern, kPlace)};
  Texts out;
  for (Matches found(compiled, text); found.next();) {
    out.push_back(text.substr(found.span.begin, found.span.end - found.span.begin));
  }
  return out;
}

TEST(Regex, HasOnigurumasWhiteSpace) {
  // White_Space has U+0085 and U+3000; U+180E and U+200B are none.
  EXPECT_EQ(matches("\\s", "a\u0085\u3000\u180e\u200b\t"), (Texts{"\u0085", "\u3000", "\t"}));
  EXPECT_EQ(matches("\\S+", "a \u180e\u200bb\u2028"), (Texts{"a", "\u180e\u200bb"}));
  EXPECT_EQ(matches("[\\sx]+", "x \u00a0y"), (Texts{"x \u00a0"}));
  EXPECT_EQ(matches("[^\\s]+", "ab\u2003c"), (Texts{"ab", "c"}));
  EXPECT_EQ(matches("[x\\S]+", "ab\u2003c"), (Texts{"ab", "c"}));
}

TEST(Regex, ReadsWhatOnigurumaWritesOtherwise) {
  // Superscripts and fractions of Latin-1 are words, but not in a class; of other characters none
  // is.
  EXPECT_EQ(matches("\\w+", "e\u0301_1-\u00bd \u2460"), (Texts{"e\u0301_1", "\u00bd"}));
  EXPECT_EQ(matches("[^\\w\\s]+", "a\u00bd"), (Texts{"\u00bd"}));
  EXPECT_EQ(matches("[\\w-]+", "a-b c"), (Texts{"a-b", "c"}));
  EXPECT_EQ(matches("\\W+", "a-+b"), (Texts{"-+"}));
  EXPECT_EQ(matches(".\\b", "e\u0301-\u00bd"), (Texts{"\u0301", "-", "\u00bd"}));
  EXPECT_EQ(matches("\\B.", "e\u0301--"), (Texts{"\u0301", "-"}));
  EXPECT_EQ(matches("\\x{20}+|\\p{Lu}+", "a  BC"), (Texts{"  ", "BC"}));
  EXPECT_EQ(matches("a{,2}b", "aaab"), (Texts{"aab"}));
  EXPECT_EQ(matches("a{,}", "a{,}"), (Texts{"a{,}"}));
  EXPECT_EQ(matches("\\h+", "xBeEfg"), (Texts{"BeEf"}));
  EXPECT_EQ(matches("\\H+", "xBeEfg"), (Texts{"x", "g"}));
  EXPECT_EQ(matches("[\\u4e00-\\u9fff]+", "a\u4e2d\u6587b"), (Texts{"\u4e2d\u6587"}));
  EXPECT_EQ(matches("^.", "ab\ncd"), (Texts{"a", "c"}));    // every line
  EXPECT_EQ(matches("(?m:a.b)", "a\nb"), (Texts{"a\nb"}));  // the dot takes line breaks
  EXPECT_EQ(matches("(?i:'S)", "it's"), (Texts{"'s"}));
  EXPECT_EQ(matches("[]a]+", "a]b"), (Texts{"a]"}));
  EXPECT_EQ(matches("[[:digit:]]+", "a12"), (Texts{"12"}));
  EXPECT_EQ(matches("[^[:punct:]]+", "a\u20ac+b"), (Texts{"a", "b"}));  // symbols are
  EXPECT_EQ(matches("\\p{Han}+|\\p{Lu}", "aB\u4e2d"), (Texts{"B", "\u4e2d"}));
  EXPECT_EQ(matches("\\\u4e2d", "\u4e2d"), (Texts{"\u4e2d"}));
}

TEST(Regex, TakesEmptyMatchesAsOnigurumaDoes) {
  const Pattern pattern{Regex("x*", kPlace)};
  std::vector<std::pair<std::size_t, std::size_t>> spans;
  for (Matches found(pattern, "axb"); found.next();) {
    spans.emplace_back(found.span.begin, found.span.end);
  }
  // None follows another match at once: not 2..2 behind the x.
  EXPECT_EQ(spans, (std::vector<std::pair<std::size_t, std::size_t>>{{0, 0}, {1, 2}, {3, 3}}));
  EXPECT_EQ(matches("", "\u00e9\u20ac").size(), 3U);  // by characters
  EXPECT_TRUE(matches("a", "").empty());
}

TEST(Regex, RefusesWhatItWouldReadOtherwise) {
  const auto fault = [](const std::string& pattern) {
    return refusal([&] { Regex(pattern, kPlace); });
  };
  EXPECT_EQ(
      fault("[a[bc]]"),
      "t.json: pre_tokenizer.pattern.Regex: the pattern \"[a[bc]]\" has a class within a class "
      "at byte 2, which is not supported");
  EXPECT_NE(fault("[a&&b]"), "");
  EXPECT_NE(fault("[[:graph:]]"), "");
  EXPECT_NE(fault("a{1,3}+"), "");
  EXPECT_NE(fault("\\p{L"), "");
  EXPECT_NE(fault("\\"), "");
  EXPECT_NE(fault("[[:digit"), "");
  EXPECT_NE(fault("[\\W]"), "");
  EXPECT_NE(fault("\\Qa\\E"), "");
  EXPECT_NE(fault("\\u12"), "");
  EXPECT_NE(fault("(*NO_JIT)a"), "");
  EXPECT_NE(fault("\xff"), "");
  EXPECT_NE(fault(std::string(100'000, 'a')), "");
  const std::string open = fault("(ab");
  EXPECT_EQ(
      open.rfind("t.json: pre_tokenizer.pattern.Regex: the pattern \"(ab\" does not compile:", 0),
      0U)
      << open;
}

TEST(Regex, GivesUpAMatchThatTakesTooLong) {
  // 2^40 ways to divide forty letters into ones and twos, roughly.
  const Regex regex("(a|aa)+[bc]", kPlace);
  const std::string text = std::string(60, 'a') + "d";
  const std::string what = refusal([&] { regex.find(text, 0); });
  EXPECT_EQ(what.rfind(
                "t.json: pre_tokenizer.pattern.Regex: the pattern \"(a|aa)+[bc]\" was given up", 0),
            0U)
      << what;
}

TEST(Pattern, TakesStringsAsTheyAre) {
  const Pattern pattern(parse_json(R"({"String": "a.b"})", "p"), kPlace);
  EXPECT_EQ(replace_all(pattern, "a.baxb", "\\0"), "\\0axb");
  const Pattern regex(parse_json(R"({"Regex": "a.b"})", "p"), kPlace);
  EXPECT_EQ(replace_all(regex, "a.baxb", "$0"), "$0$0");
  for (const char* wrong : {R"({})", R"("a")", R"({"String": ""})", R"({"Regex": 1})",
                            R"({"Text": "a"})", R"({"String": "a", "Regex": "b"})"}) {
    EXPECT_THROW(Pattern(parse_json(wrong, "p"), kPlace), FormatError) << wrong;
  }
}

}  // namespace
}  // namespace moekit::text
