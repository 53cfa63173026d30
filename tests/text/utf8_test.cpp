#include "moekit/text/utf8.h"

#include <gtest/gtest.h>

#include "moekit/text/byte_alphabet.h"
#include "tests/text/tiny.h"

namespace moekit::text {
namespace {

TEST(Utf8, SaysWhereTheFirstBrokenByteStands) {
  EXPECT_FALSE(broken_utf8_at("a\u00e9\u20ac\U0001F600"));
  EXPECT_EQ(broken_utf8_at("a\xff"), 1U);
  EXPECT_EQ(broken_utf8_at("\u00e9\xe2\x82"), 2U);      // cut short
  EXPECT_EQ(broken_utf8_at("\xc0\xaf"), 0U);            // longer than needed
  EXPECT_EQ(broken_utf8_at("\xed\xa0\x80"), 0U);        // a surrogate
  EXPECT_EQ(broken_utf8_at("ab\xf4\x90\x80\x80"), 2U);  // above 10FFFF
}

TEST(Utf8, ReplacesMaximalSubparts) {
  // The example of Unicode 15, table 3-8.
  EXPECT_EQ(with_replacements("a\xf1\x80\x80\xe1\x80\xc2"
                              "b\x80"
                              "c\x80\xbf"
                              "d"),
            "a\ufffd\ufffd\ufffdb\ufffdc\ufffd\ufffdd");
}

TEST(Utf8, WritesAndReadsCharacters) {
  for (const char32_t character : {0x0, 0x7f, 0x80, 0x7ff, 0x800, 0xffff, 0x10000, 0x10ffff}) {
    std::string text;
    append_character(text, character);
    EXPECT_TRUE(is_one_character(text));
    EXPECT_FALSE(broken_utf8_at(text));
    EXPECT_EQ(character_at(text, 0), character);
    EXPECT_EQ(character_before(text + text, 2 * text.size()), text.size());
  }
}

TEST(Utf8, DividesIntoRuns) {
  Texts runs;
  std::size_t next = 0;
  for_each_run("ab\xff\xfe\u00e9\xe2\x82",
               [&](std::string_view run, bool valid, std::size_t begin) {
                 EXPECT_EQ(begin, next);
                 next = begin + run.size();
                 runs.push_back((valid ? "+" : "-") + std::string(run));
               });
  EXPECT_EQ(runs, (Texts{"+ab", "-\xff\xfe", "+\u00e9", "-\xe2\x82"}));
}

TEST(ByteAlphabet, IsThatOfGpt2) {
  // encoder.json has "\u0120" for a space, "\u010a" for a line break, "\u0121" for byte 7F,
  // "\u0143" for AD; printable Latin-1 stands for itself.
  EXPECT_EQ(spell_bytes(" \n\x7f\xad~\xe9"), "\u0120\u010a\u0121\u0143~\u00e9");
  EXPECT_EQ(bytes_spelt("\u0120\u010a\u0121\u0143~\u00e9"), " \n\x7f\xad~\xe9");
  EXPECT_EQ(bytes_spelt(" "), std::nullopt);
  EXPECT_EQ(bytes_spelt("\u4e2d"), std::nullopt);
  std::string all;
  for (int byte = 0; byte < 256; ++byte) all += static_cast<char>(byte);
  EXPECT_EQ(bytes_spelt(spell_bytes(all)), all);
}

}  // namespace
}  // namespace moekit::text
