#include <gtest/gtest.h>

#include "moekit/text/decoder.h"
#include "tests/text/tiny.h"

namespace moekit::text {
namespace {

Texts decoded(const std::string& json, Texts tokens) {
  part<DecoderKinds, DecoderSite>(json)->apply(tokens);
  return tokens;
}

TEST(Decoders, GiveTheBytesThatTokensSpell) {
  EXPECT_EQ(decoded(R"({"type": "ByteLevel"})", {"\u0120a\u00c3", "\u00a9", "<|a b|>"}),
            (Texts{" a\u00e9<|a b|>"}));
  EXPECT_EQ(decoded(R"({"type": "ByteLevel"})", {"\u00c3"}), (Texts{"\xc3"}));
  // Only what the last decoder gives may be broken.
  EXPECT_EQ(
      decoded(R"({"type": "Sequence", "decoders": [{"type": "ByteLevel"}, {"type": "Fuse"}]})",
              {"\u00c3"}),
      (Texts{"\ufffd"}));
}

TEST(Decoders, JoinBytesOfFallback) {
  const char* kind = R"({"type": "ByteFallback"})";
  EXPECT_EQ(decoded(kind, {"a", "<0xC3>", "<0xa9>", "b"}), (Texts{"a", "\u00e9", "b"}));
  EXPECT_EQ(decoded(kind, {"<0xC3>", "<0x41>", "x"}), (Texts{"\ufffd", "\ufffd", "x"}));
  EXPECT_EQ(decoded(kind, {"<0x61>"}), (Texts{"a"}));
  EXPECT_EQ(decoded(kind, {"<0x6>", "<0xGG>", "<0x+1>"}), (Texts{"<0x6>", "<0xGG>", "<0x+1>"}));
}

TEST(Decoders, PutSpacesForTheirReplacement) {
  EXPECT_EQ(decoded(R"({"type": "Metaspace", "replacement": "_"})", {"_Hey", "_you_"}),
            (Texts{"Hey", " you "}));
  EXPECT_EQ(decoded(R"({"type": "Metaspace", "replacement": "_", "prepend_scheme": "never"})",
                    {"_Hey", "_you"}),
            (Texts{" Hey", " you"}));
}

TEST(Decoders, StripAndReplaceInEachToken) {
  EXPECT_EQ(decoded(R"({"type": "Strip", "content": "H", "start": 1, "stop": 0})",
                    {"Hey", " friend!", "HHH"}),
            (Texts{"ey", " friend!", "HH"}));
  EXPECT_EQ(
      decoded(R"({"type": "Strip", "content": "y", "start": 0, "stop": 1})", {"Hey", "y", ""}),
      (Texts{"He", "", ""}));
  EXPECT_EQ(decoded(R"({"type": "Strip", "content": "\u00e9", "start": 2, "stop": 2})",
                    {"\u00e9\u00e9\u00e9"}),
            (Texts{""}));
  EXPECT_EQ(
      decoded(R"({"type": "Replace", "pattern": {"String": "_"}, "content": " "})", {"_a_", "_"}),
      (Texts{" a ", " "}));
  EXPECT_EQ(refusal([] { decoded(R"({"type": "Strip", "content": ""})", {}); }),
            "part.json: part.content must be one character; got \"\"");
  const std::string below = refusal([] { decoded(R"({"type": "Strip", "start": -1})", {}); });
  EXPECT_EQ(below, "part.json: part.start must be at least 0; got -1");
}

TEST(Decoders, NameWhatTheyDoNotKnow) {
  EXPECT_EQ(
      refusal([] { decoded(R"({"type": "CTC"})", {}); }),
      "part.json: part.type: unknown decoder \"CTC\"; known: ByteLevel, Replace, ByteFallback, "
      "Fuse, Strip, Metaspace or Sequence");
}

}  // namespace
}  // namespace moekit::text
