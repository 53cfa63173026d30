#include "moekit/text/tokenizer.h"

#include <gtest/gtest.h>

#include <thread>

#include "moekit/core/files.h"
#include "moekit/text/documents.h"
#include "tests/support/growth.h"
#include "tests/text/tiny.h"

namespace moekit::text {
namespace {
namespace fs = std::filesystem;

/// a, b and the space are tokens of a model without merges.
std::string with_added(const std::string& tokens) {
  return R"("added_tokens": [)" + tokens +
         R"(], "decoder": {"type": "Fuse"},
         "model": {"type": "BPE", "vocab": {"a": 0, "b": 1, " ": 2, "\u00e9": 3}, "merges": []})";
}
std::string added(std::int64_t id, const std::string& content, const std::string& flags = "") {
  return R"({"id": )" + std::to_string(id) + R"(, "content": ")" + content + "\"" +
         (flags.empty() ? "" : ", ") + flags + "}";
}

TEST(AddedTokens, AreFoundBeforeAllElseTheLongestFirst) {
  const auto tokenizer =
      tiny(with_added(added(4, "<s>") + "," + added(5, "<s>a") + "," + added(6, "ab")));
  EXPECT_EQ(tokenizer.encode("a<s>b<s>aab"), (Ids{0, 4, 1, 5, 6}));
  EXPECT_THROW(tokenizer.encode("<s"), ArgumentError);  // its beginning is none
}

TEST(AddedTokens, TakeWhiteSpaceBesideThem) {
  const auto left = tiny(with_added(added(4, "<s>", R"("lstrip": true)")));
  EXPECT_EQ(left.encode("a  <s> b"), (Ids{0, 4, 2, 1}));
  const auto right = tiny(with_added(added(4, "<s>", R"("rstrip": true)")));
  EXPECT_EQ(right.encode("a <s> \u2003b<s>"), (Ids{0, 2, 4, 1, 4}));
  const auto both = tiny(with_added(added(4, "<s>", R"("lstrip": true, "rstrip": true)")));
  EXPECT_EQ(both.encode(" <s>  <s> "), (Ids{4, 4}));
  // A token of white space that another one has taken is none.
  const auto line = tiny(with_added(added(4, "<s>", R"("rstrip": true)") + "," +
                                    added(5, "\\n", R"("lstrip": true)")));
  EXPECT_EQ(line.encode("<s>\n\nb \n"), (Ids{4, 1, 5}));
}

TEST(AddedTokens, AreFoundInLinearTime) {
  const auto space = tiny(with_added(added(4, "  ", R"("rstrip": true, "lstrip": true)")));
  const double grown = growth(
      50'000, [](int n) { return std::string(static_cast<std::size_t>(n), ' '); },
      [&](const std::string& text) { space.encode(text); });
  EXPECT_LT(grown, kLinearGrowth);
}

TEST(AddedTokens, MayHaveToBeWords) {
  const auto tokenizer = tiny(with_added(added(4, "ab", R"("single_word": true)")));
  EXPECT_EQ(tokenizer.encode("ab bab ab"), (Ids{4, 2, 1, 0, 1, 2, 4}));
  EXPECT_EQ(tokenizer.encode("ab\u00e9"), (Ids{0, 1, 3}));
}

TEST(AddedTokens, AreLookedForInTheNormalizedTextIfTheySaySo) {
  const std::string lower = R"("normalizer": {"type": "Lowercase"}, )";
  EXPECT_EQ(tiny(lower + with_added(added(4, "AB", R"("normalized": true)"))).encode("aAb"),
            (Ids{0, 4}));
  EXPECT_EQ(tiny(lower + with_added(added(4, "AB", R"("normalized": false)"))).encode("aAbAB"),
            (Ids{0, 0, 1, 4}));
}

TEST(AddedTokens, AreRefusedWhereTheyContradictOthers) {
  EXPECT_EQ(refusal_of(with_added(added(1, "<s>"))),
            "tiny.json: added_tokens[0]: \"<s>\" has the id 1, which is that of \"b\"");
  EXPECT_EQ(refusal_of(with_added(added(4, "<s>") + "," + added(4, "<t>"))),
            "tiny.json: added_tokens[1]: \"<t>\" has the id 4, which is that of \"<s>\"");
  EXPECT_EQ(refusal_of(with_added(added(4, "a"))),
            "tiny.json: added_tokens[0]: \"a\" has the ids 0 and 4");
  EXPECT_EQ(refusal_of(with_added(added(4, ""))),
            "tiny.json: added_tokens[0].content must not be empty");
  EXPECT_EQ(
      refusal_of(with_added(added(1LL << 40, "x"))),
      "tiny.json: added_tokens[0]: the id of \"x\" must be from 0 to 4194303; got 1099511627776");
  EXPECT_EQ(refusal_of(with_added(R"({"content": "x"})")),
            "tiny.json: added_tokens[0]: the id of \"x\" must be from 0 to 4194303; got -1");
}

TEST(Tokenizer, LeavesSpecialTokensOutIfAsked) {
  const auto tokenizer =
      tiny(with_added(added(4, "<s>", R"("special": true)") + "," + added(5, "<t>")));
  EXPECT_EQ(tokenizer.decode(Ids{4, 0, 5, 1}), "<s>a<t>b");
  EXPECT_EQ(tokenizer.decode(Ids{4, 0, 5, 1}, true), "a<t>b");
  EXPECT_EQ(tokenizer.special_ids(), (Ids{4}));
  const std::string twice = added(4, "<s>", R"("special": true)");
  EXPECT_EQ(tiny(with_added(twice + "," + twice)).special_ids(), (Ids{4}));
  EXPECT_TRUE(tokenizer.is_special(4));
  EXPECT_FALSE(tokenizer.is_special(5));
  EXPECT_EQ(tokenizer.vocabulary_size(), 6);
  EXPECT_EQ(tokenizer.id_of("<t>"), 5);
  EXPECT_EQ(tokenizer.id_of("c"), std::nullopt);
}

TEST(Tokenizer, JoinsBySpacesWithoutDecoder) {
  EXPECT_EQ(tiny(R"("model": {"type": "BPE", "vocab": {"a": 0, "b": 1}, "merges": []})")
                .decode(Ids{0, 1, 0}),
            "a b a");
}

TEST(Tokenizer, RefusesIdsThatNoTokenHas) {
  const auto tokenizer =
      tiny(R"("model": {"type": "BPE", "vocab": {"a": 0, "b": 2}, "merges": []})");
  EXPECT_EQ(tokenizer.vocabulary_size(), 3);
  for (const std::int32_t id : {-1, 1, 3, std::numeric_limits<std::int32_t>::max()}) {
    EXPECT_EQ(
        refusal<ArgumentError>([&] {
          tokenizer.decode(Ids{0, id});
        }),
        concat("tiny.json: id ", id, ", number 1 of 2, is that of no token; ids are below 3"));
    EXPECT_THROW(tokenizer.token_text(id), ArgumentError);
    EXPECT_FALSE(tokenizer.has(id));
  }
}

TEST(Tokenizer, AddsWhatItsTemplateSays) {
  const std::string model = with_added(added(4, "<s>") + "," + added(5, "</s>"));
  const auto templated = [&](const std::string& single) {
    return model + R"(, "post_processor": {"type": "Sequence", "processors": [
        {"type": "ByteLevel"}, {"type": "TemplateProcessing", "single": )" +
           single + R"(, "pair": [], "special_tokens": {
        "<s>": {"id": "<s>", "ids": [4], "tokens": ["<s>"]},
        "no": {"id": "no", "ids": [9], "tokens": ["no"]}}}]})";
  };
  const std::string text = R"({"Sequence": {"id": "A", "type_id": 0}})";
  const std::string start = R"({"SpecialToken": {"id": "<s>", "type_id": 0}})";
  const auto tokenizer = tiny(templated("[" + start + "," + text + "," + start + "]"));
  EXPECT_EQ(tokenizer.encode("ab"), (Ids{0, 1}));
  EXPECT_EQ(tokenizer.encode("ab", true), (Ids{4, 0, 1, 4}));
  EXPECT_EQ(tokenizer.encode("", true), (Ids{4, 4}));
  const std::string place = "tiny.json: post_processor.processors[1].";
  EXPECT_EQ(refusal_of(templated("[" + start + "]")),
            place + "single: sequence A must stand there once; it does 0 times");
  EXPECT_EQ(refusal_of(templated(R"([{"SpecialToken": {"id": "</s>"}}, )" + text + "]")),
            place + "single[0].SpecialToken: \"</s>\" is not among special_tokens");
  EXPECT_EQ(refusal_of(templated(R"([{"SpecialToken": {"id": "no"}}, )" + text + "]")),
            place + "special_tokens.no.ids must be ids of tokens; got 9");
  EXPECT_EQ(
      refusal_of(templated(R"([{"Sequence": {"id": "B"}}])")),
      place +
          R"(single[0] must be {"SpecialToken": {"id": ...}} or {"Sequence": {"id": "A"}}; got "B")");
}

TEST(Tokenizer, RefusesDocumentsItDoesNotUnderstand) {
  const auto fault = [](const std::string& text) {
    return refusal([&] { Tokenizer::parse(text, "t.json"); });
  };
  EXPECT_EQ(fault("{"), "t.json: is no JSON");
  EXPECT_EQ(fault("[]"), "t.json must be an object; got a list of 0");
  EXPECT_EQ(fault(R"({"modell": {}})"), "t.json: modell: unknown key");
  EXPECT_EQ(fault(R"({"version": "2.0"})"), "t.json: version must be \"1.0\"; got \"2.0\"");
  EXPECT_EQ(fault(R"({"truncation": {"max_length": 512}})"),
            "t.json: truncation must be null: texts are encoded whole; got an object");
  EXPECT_EQ(
      fault(R"({"pre_tokenizer": {"type": "Split", "pattern": {"Regex": "("}}})")
          .rfind("t.json: pre_tokenizer.pattern.Regex: the pattern \"(\" does not compile: ", 0),
      0U);
  EXPECT_EQ(
      fault(R"({"decoder": {}, "model": {"type": "BPE", "vocab": {"a": 0}, "merges": []}})"),
      "t.json: decoder.type must be ByteLevel, Replace, ByteFallback, Fuse, Strip, Metaspace or "
      "Sequence; got null");
}

TEST(Tokenizer, OfBytesTakesAnyBytesAndGivesThemBack) {
  const auto tokenizer = byte_tokenizer();
  EXPECT_EQ(tokenizer.vocabulary_size(), 256);
  std::string all;
  for (int byte = 255; byte >= 0; --byte) all += static_cast<char>(byte);
  const auto ids = tokenizer.encode(all);
  ASSERT_EQ(ids.size(), 256U);
  for (std::size_t i = 0; i < ids.size(); ++i) EXPECT_EQ(ids[i], 255 - static_cast<int>(i));
  EXPECT_EQ(tokenizer.decode_bytes(ids), all);
  EXPECT_EQ(tokenizer.decode(Ids{'a', 0xC3}), "a\ufffd");
  EXPECT_EQ(tokenizer.token_text(' '), "\u2423");
  EXPECT_EQ(tokenizer.token_text('\n'), "\u23ce");
  EXPECT_EQ(tokenizer.token_text(0x1B), "<0x1B>");
  EXPECT_EQ(tokenizer.token_text(0xC3), "<0xC3>");
  EXPECT_EQ(tokenizer.token_text('a'), "a");
}

TEST(Tokenizer, KeepsBrokenBytesApartFromWords) {
  // Runs that are UTF-8 are divided as texts of their own.
  const auto tokenizer = tiny(R"("pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": false},
      "decoder": {"type": "ByteLevel"}, "added_tokens": [{"id": 9, "content": "<s>"}],
      "model": {"type": "BPE", "vocab": {"a": 0, "b": 1, "\u00ff": 2, "ab": 3, "\u00ff\u00ff": 4},
                "merges": ["a b", "\u00ff \u00ff"]})");
  EXPECT_EQ(tokenizer.encode("ab\xff\xff"
                             "ab<s>\xff"),
            (Ids{3, 4, 3, 9, 2}));
  EXPECT_EQ(tokenizer.decode_bytes(tokenizer.encode("b\xff"
                                                    "a")),
            "b\xff"
            "a");
}

TEST(Tokenizer, OfCharactersRefusesBrokenUtf8WithItsPlace) {
  const auto tokenizer = character_tokenizer("caf\u00e9 ac");
  // " ", a, c, e-acute is above f
  EXPECT_EQ(tokenizer.vocabulary_size(), 6);
  EXPECT_EQ(tokenizer.encode("fac\u00e9 x"), (Ids{3, 1, 2, 4, 0, 5}));
  EXPECT_EQ(tokenizer.decode(Ids{2, 1, 3, 4}), "caf\u00e9");
  EXPECT_EQ(tokenizer.decode(Ids{2, 5, 3}, true), "cf");
  EXPECT_EQ(
      refusal<ArgumentError>([&] { tokenizer.encode("ac\xff"); }),
      "character tokenizer: the text is not UTF-8 at byte 2, and this tokenizer takes characters");
  EXPECT_THROW(character_tokenizer(""), ArgumentError);
  EXPECT_THROW(character_tokenizer("a\xff"), ArgumentError);
}

TEST(Tokenizer, IsUsedByManyThreadsAtOnce) {
  const auto tokenizer = tiny(R"("pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": false},
      "model": {"type": "BPE", "vocab": {"a": 0, "\u0120": 1, "\u0120a": 2}, "merges": ["\u0120 a"]})");
  std::string text;
  for (int i = 0; i < 2000; ++i)
    text += std::string(static_cast<std::size_t>(i % 50 + 1), 'a') + " ";
  const auto wanted = tokenizer.encode(text);
  std::vector<Ids> got(4);
  std::vector<std::thread> threads;
  for (auto& ids : got) {
    threads.emplace_back([&ids, &text, tokenizer] {
      for (int i = 0; i < 5; ++i) ids = tokenizer.encode(text);
    });
  }
  for (auto& thread : threads) thread.join();
  for (const auto& ids : got) EXPECT_EQ(ids, wanted);
}

class TokenizerFiles : public testing::Test {
 protected:
  void SetUp() override {
    folder_ = fs::temp_directory_path() / concat("moekit-tokenizer-", ::getpid());
    fs::remove_all(folder_);
    fs::create_directories(folder_);
  }
  void TearDown() override { fs::remove_all(folder_); }
  fs::path folder_;
};

TEST_F(TokenizerFiles, SaveAndLoadTheDocument) {
  const auto tokenizer = character_tokenizer("abc");
  tokenizer.save(folder_ / "tokenizer.json");
  for (const auto& path : {folder_, folder_ / "tokenizer.json"}) {
    const auto again = Tokenizer::load(path);
    EXPECT_EQ(again.document(), tokenizer.document());
    EXPECT_EQ(again.checksum(), tokenizer.checksum());
    EXPECT_EQ(again.encode("cab"), tokenizer.encode("cab"));
  }
}

TEST_F(TokenizerFiles, MayBeThoseOfGpt2) {
  EXPECT_EQ(refusal<IoError>([&] { Tokenizer::load(folder_); }),
            folder_.string() + ": holds neither tokenizer.json nor vocab.bpe and encoder.json");
  write_file_atomic(folder_ / "vocab.bpe", "#version: 0.2\na b\n\u0120 ab\n");
  write_file_atomic(folder_ / "encoder.json",
                    R"({"a": 0, "b": 1, "\u0120": 2, "ab": 3, "\u0120ab": 4, "<|endoftext|>": 5})");
  const auto tokenizer = Tokenizer::load(folder_);
  EXPECT_EQ(tokenizer.encode("ab ab<|endoftext|>a"), (Ids{3, 4, 5, 0}));
  EXPECT_EQ(tokenizer.special_ids(), (Ids{5}));
  EXPECT_EQ(tokenizer.decode(Ids{3, 4}), "ab ab");
  EXPECT_EQ(tokenizer.token_text(4),
            "\u2423"
            "ab");
}

}  // namespace
}  // namespace moekit::text
