#include "moekit/text/token_file.h"

#include <gtest/gtest.h>

#include <cstring>

#include "moekit/text/documents.h"
#include "tests/text/tiny.h"

namespace moekit::text {
namespace {
namespace fs = std::filesystem;

class TokenFileTest : public testing::Test {
 protected:
  void SetUp() override {
    folder_ = fs::temp_directory_path() / concat("moekit-token-file-", ::getpid());
    fs::remove_all(folder_);
    fs::create_directories(folder_);
  }
  void TearDown() override { fs::remove_all(folder_); }
  fs::path path() const { return folder_ / "tokens"; }
  void write_three() {
    TokenFileWriter writer(path(), tokenizer_, {"news", "code"});
    writer.append(Ids{1, 2});
    writer.append(Ids{3});
    writer.end_document(1);
    writer.end_document(0);  // an empty one
    writer.append(Ids{255, 0});
    writer.end_document(0);
    writer.commit();
  }
  std::string refusal_of_bytes(const std::string& bytes) {
    write_file_atomic(path(), bytes);
    std::string what = refusal([&] { TokenFile file(path()); });
    const std::string where = path().string();
    if (what.rfind(where, 0) == 0) what = what.substr(where.size());
    return what;
  }
  const Tokenizer tokenizer_ = byte_tokenizer();
  fs::path folder_;
};

TEST_F(TokenFileTest, GivesBackWhatWasWritten) {
  write_three();
  const TokenFile file(path());
  ASSERT_EQ(file.tokens().size(), 5);
  const Ids wanted = {1, 2, 3, 255, 0};
  for (std::int64_t i = 0; i < 5; ++i) EXPECT_EQ(file.tokens()[i], wanted[static_cast<size_t>(i)]);
  std::vector<std::int64_t> part(3);
  file.tokens().copy(2, std::span(part));
  EXPECT_EQ(part, (std::vector<std::int64_t>{3, 255, 0}));
  EXPECT_EQ(file.documents(), 3);
  EXPECT_EQ(file.begin_of(0), 0);
  EXPECT_EQ(file.end_of(0), 3);
  EXPECT_EQ(file.begin_of(1), 3);
  EXPECT_EQ(file.end_of(1), 3);
  EXPECT_EQ(file.end_of(2), 5);
  std::vector<std::int64_t> documents;
  for (std::int64_t i = 0; i < 5; ++i) documents.push_back(file.document_of(i));
  EXPECT_EQ(documents, (std::vector<std::int64_t>{0, 0, 0, 2, 2}));
  EXPECT_EQ(file.domain_of(0), 1);
  EXPECT_EQ(file.domain_of(2), 0);
  EXPECT_EQ(file.domains(), (Texts{"news", "code"}));
  EXPECT_EQ(file.tokenizer(), tokenizer_.checksum());
  EXPECT_EQ(file.vocabulary_size(), 256);
  EXPECT_EQ(std::distance(fs::directory_iterator(folder_), {}), 1);  // nothing is left beside it
}

TEST_F(TokenFileTest, RefusesPlacesOutside) {
  write_three();
  const TokenFile file(path());
  std::vector<std::int32_t> two(2);
  for (const std::int64_t at : {std::int64_t{-1}, std::int64_t{5}, INT64_MAX, INT64_MIN}) {
    EXPECT_THROW(file.tokens()[at], ArgumentError);
    EXPECT_THROW(file.tokens().copy(at, std::span(two)), ArgumentError);
    EXPECT_THROW(file.document_of(at), ArgumentError);
    EXPECT_THROW(file.domain_of(at), ArgumentError);
    EXPECT_THROW(file.begin_of(at), ArgumentError);
    EXPECT_THROW(file.end_of(at), ArgumentError);
  }
  EXPECT_THROW(file.tokens().copy(4, std::span(two)), ArgumentError);
}

TEST_F(TokenFileTest, WritesNothingThatCannotBeRead) {
  EXPECT_THROW(TokenFileWriter(path(), tokenizer_, {}), ArgumentError);
  EXPECT_THROW(TokenFileWriter(path(), tokenizer_, {"a", "a"}), ArgumentError);
  EXPECT_THROW(TokenFileWriter(path(), tokenizer_, {"\xff"}), ArgumentError);
  EXPECT_THROW(TokenFileWriter(folder_ / "none" / "tokens", tokenizer_, {"a"}), IoError);
  TokenFileWriter writer(path(), tokenizer_, {"a"});
  EXPECT_THROW(writer.append(Ids{256}), ArgumentError);
  EXPECT_THROW(writer.append(Ids{-1}), ArgumentError);
  EXPECT_THROW(writer.end_document(1), ArgumentError);
  writer.append(Ids{0});
  EXPECT_THROW(writer.commit(), ArgumentError);
  EXPECT_FALSE(fs::exists(path()));
}

TEST_F(TokenFileTest, HasWideIdsForALargeVocabulary) {
  const auto tokenizer =
      tiny(R"("model": {"type": "BPE", "vocab": {"a": 0, "b": 65536}, "merges": []})");
  TokenFileWriter writer(path(), tokenizer, {"a"});
  writer.append(Ids{65536, 0});
  writer.end_document(0);
  writer.commit();
  const TokenFile file(path());
  EXPECT_EQ(file.tokens()[0], 65536);
  EXPECT_EQ(file.tokens()[1], 0);
}

TEST_F(TokenFileTest, MayBeEmpty) {
  TokenFileWriter writer(path(), tokenizer_, {"a"});
  writer.commit();
  const TokenFile file(path());
  EXPECT_EQ(file.tokens().size(), 0);
  EXPECT_EQ(file.documents(), 0);
  EXPECT_THROW(file.document_of(0), ArgumentError);
}

TEST_F(TokenFileTest, RefusesTruncatedAndLyingFiles) {
  write_three();
  const std::string sound = read_file(path());
  for (std::size_t cut = 0; cut < sound.size(); ++cut) {
    EXPECT_NE(refusal_of_bytes(sound.substr(0, cut)), "") << cut;
  }
  EXPECT_NE(refusal_of_bytes(sound + "x"), "");
  std::uint64_t length = 0;
  std::memcpy(&length, sound.data(), 8);
  const std::size_t ends = 8 + length;
  const auto with = [&](std::size_t at, std::uint64_t value, std::size_t bytes) {
    std::string changed = sound;
    std::memcpy(changed.data() + at, &value, bytes);
    return refusal_of_bytes(changed);
  };
  EXPECT_EQ(
      with(0, std::uint64_t{1} << 60, 8),
      concat(": a header of 1152921504606846976 bytes does not fit the file of ", sound.size()));
  EXPECT_EQ(with(ends, 4, 8), ": document 1 ends at 3, the one before it at 4, of 5 tokens");
  EXPECT_EQ(with(ends + 16, 6, 8), ": document 2 ends at 6, the one before it at 3, of 5 tokens");
  EXPECT_EQ(with(ends + 16, 4, 8), ": the last document ends at 4 of 5 tokens");
  EXPECT_EQ(with(ends + 24, 2, 4), ": document 0 is of domain 2; there are 2");
  const auto with_header = [&](const std::string& from, const std::string& to) {
    std::string changed = sound;
    const std::size_t at = changed.find(from);
    changed.replace(at, from.size(), to);
    const std::size_t longer = to.size() - from.size();
    changed.erase(changed.find('}', at) + 1, longer);  // of the spaces behind it
    return refusal_of_bytes(changed);
  };
  EXPECT_EQ(
      with_header("\"tokens\":5", "\"tokens\":6").rfind(": 3 documents of 6 tokens do not", 0), 0U);
  EXPECT_EQ(with_header("uint16", "uint32"), ": dtype \"uint32\" of a vocabulary of 256");
  EXPECT_EQ(with_header("\"version\":1", "\"version\":2"),
            ": format \"moekit-tokens\", version 2; wanted moekit-tokens, version 1");
}

TEST_F(TokenFileTest, ChecksIdsWhenTheyAreRead) {
  const auto small = character_tokenizer("a");  // two ids
  TokenFileWriter writer(path(), small, {"a"});
  writer.append(Ids{0, 1});
  writer.end_document(0);
  writer.commit();
  std::string bytes = read_file(path());
  bytes[bytes.size() - 2] = 7;
  write_file_atomic(path(), bytes);
  const TokenFile file(path());
  EXPECT_EQ(file.tokens()[0], 0);
  EXPECT_EQ(refusal([&] { file.tokens()[1]; }),
            path().string() + ": token 1 is 7, beyond the vocabulary of 2");
}

}  // namespace
}  // namespace moekit::text
