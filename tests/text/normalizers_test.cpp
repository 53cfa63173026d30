#include <gtest/gtest.h>

#include "moekit/text/normalizer.h"
#include "tests/support/growth.h"
#include "tests/text/tiny.h"

namespace moekit::text {
namespace {

std::string normalized(const std::string& json, std::string text) {
  part<NormalizerKinds, NormalizerSite>(json)->apply(text);
  return text;
}

TEST(Normalizers, BringIntoUnicodesForms) {
  // UAX 15, figure 6: the long s with dots, which has a different form in each.
  const std::string text = "\u1e9b\u0323";
  EXPECT_EQ(normalized(R"({"type": "NFD"})", text), "\u017f\u0323\u0307");
  EXPECT_EQ(normalized(R"({"type": "NFC"})", text), "\u1e9b\u0323");
  EXPECT_EQ(normalized(R"({"type": "NFKD"})", text), "s\u0323\u0307");
  EXPECT_EQ(normalized(R"({"type": "NFKC"})", text), "\u1e69");
}

TEST(Normalizers, ComposeAcrossEveryBoundary) {
  // Stretches begin with the character before a mark, and Latin-1 letters take marks too.
  EXPECT_EQ(normalized(R"({"type": "NFC"})", "e\u0301"), "\u00e9");
  EXPECT_EQ(normalized(R"({"type": "NFC"})", "xe\u0301y\u0301."), "x\u00e9\u00fd.");
  EXPECT_EQ(normalized(R"({"type": "NFC"})", "\u00fc\u0304a \u1100\u1161"), "\u01d6a \uac00");
  EXPECT_EQ(normalized(R"({"type": "NFC"})", "a\u0315\u0300"), "\u00e0\u0315");  // reordered first
  EXPECT_EQ(normalized(R"({"type": "NFC"})", "plain \u00e9"), "plain \u00e9");
  EXPECT_EQ(normalized(R"({"type": "NFKC"})", "\ufb01x\u00b2"), "fix2");
  EXPECT_EQ(normalized(R"({"type": "NFC"})", std::string("a\0e\u0301", 5)),
            std::string("a\0\u00e9", 4));
}

TEST(Normalizers, OrderManyMarksInLittleMoreThanLinearTime) {
  const auto form = part<NormalizerKinds, NormalizerSite>(R"({"type": "NFC"})");
  const auto marks = [](int n) {  // of two classes in turn, the higher one first
    std::string text;
    for (int i = 0; i < n; ++i) text += "\u0301\u0323";
    return text;
  };
  const double grown = growth(5'000, marks, [&](std::string text) { form->apply(text); });
  EXPECT_LT(grown, kLinearGrowth);
  EXPECT_EQ(normalized(R"({"type": "NFD"})", marks(3)), "\u0323\u0323\u0323\u0301\u0301\u0301");
}

TEST(Normalizers, ChangeCase) {
  EXPECT_EQ(normalized(R"({"type": "Lowercase"})", "A\u00c9\u03a3\u0130b"),
            "a\u00e9\u03c3i\u0307b");
}

TEST(Normalizers, SetReplaceAndStrip) {
  EXPECT_EQ(normalized(R"({"type": "Prepend", "prepend": "_"})", "a"), "_a");
  EXPECT_EQ(normalized(R"({"type": "Prepend", "prepend": "_"})", ""), "");
  const char* strip = R"({"type": "Strip", "strip_left": true, "strip_right": false})";
  EXPECT_EQ(normalized(strip, "\u3000 a "), "a ");
  EXPECT_EQ(
      normalized(R"({"type": "Strip", "strip_left": false, "strip_right": true})", " a \u2003"),
      " a");
  EXPECT_EQ(normalized(strip, "  "), "");
  EXPECT_EQ(normalized(R"({"type": "Sequence", "normalizers": [
      {"type": "Replace", "pattern": {"Regex": "\\s+"}, "content": "_"},
      {"type": "Prepend", "prepend": ">"}]})",
                       "a \u2003b"),
            ">a_b");
}

TEST(Normalizers, NameWhatTheyDoNotKnow) {
  EXPECT_EQ(refusal([] { normalized(R"({"type": "Nmt"})", ""); }),
            "part.json: part.type: unknown normalizer \"Nmt\"; known: NFC, NFD, NFKC, NFKD, "
            "Lowercase, Prepend, Replace, Strip or Sequence");
  EXPECT_EQ(refusal([] {
              normalized(R"({"type": "Sequence", "normalizers": [{"type": "NFC"}, {"type": 3}]})",
                         "");
            }),
            "part.json: part.normalizers[1].type must be NFC, NFD, NFKC, NFKD, Lowercase, Prepend, "
            "Replace, Strip or Sequence; got 3");
  const std::string unknown = refusal([] { normalized(R"({"type": "NFC", "form": 1})", ""); });
  EXPECT_NE(unknown.find("part.json: unknown key part.form"), std::string::npos) << unknown;
  EXPECT_EQ(refusal([] { normalized(R"({"type": "Prepend", "prepend": 1})", ""); }),
            "part.json: part.prepend must be a string; got 1");
}

}  // namespace
}  // namespace moekit::text
