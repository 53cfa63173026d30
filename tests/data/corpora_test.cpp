#include "moekit/data/corpora.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <cstdlib>

#include "moekit/core/error.h"
#include "moekit/core/files.h"

namespace moekit::data {
namespace {
namespace fs = std::filesystem;

class CorpusTest : public testing::Test {
 protected:
  void SetUp() override {
    folder_ = fs::temp_directory_path() / concat("moekit-corpus-", ::getpid());
    fs::remove_all(folder_);
    create_folders(folder_);
  }
  void TearDown() override { fs::remove_all(folder_); }
  void write(const fs::path& name, const std::string& text) {
    create_folders((folder_ / name).parent_path());
    write_file_atomic(folder_ / name, text);
  }
  template <typename Kind>
  std::string refusal(const fs::path& path) {
    try {
      read_corpus(path);
    } catch (const Kind& error) {
      return error.what();
    }
    return "nothing";
  }
  fs::path folder_;
};

TEST_F(CorpusTest, EveryFileAndFolderIsADomainByName) {
  write("b.txt", "one text");
  write("letters/2.txt", "second");
  write("letters/1.txt", "first");
  write("letters/deep/3.txt", "third");
  write("a.txt", "another");
  write(".hidden", "not this");
  write("letters/.hidden", "nor this");
  write("empty.txt", "");
  const auto domains = read_corpus(folder_);
  ASSERT_EQ(domains.size(), 3U);  // no text makes no domain
  EXPECT_EQ(domains[0].name, "a");
  EXPECT_EQ(domains[0].documents, std::vector<std::string>{"another"});
  EXPECT_EQ(domains[1].name, "b");
  EXPECT_EQ(domains[2].name, "letters");
  EXPECT_EQ(domains[2].documents, (std::vector<std::string>{"first", "second", "third"}));
}

TEST_F(CorpusTest, OneFileIsOneDomain) {
  write("b.txt", "one text");
  const auto domains = read_corpus(folder_ / "b.txt");
  ASSERT_EQ(domains.size(), 1U);
  EXPECT_EQ(domains[0].name, "b");
  EXPECT_EQ(domains[0].documents, std::vector<std::string>{"one text"});
}

TEST_F(CorpusTest, UnpacksCompressedFiles) {
  write("poem.txt", "packed text");
  ASSERT_EQ(std::system(concat("gzip ", (folder_ / "poem.txt").string()).c_str()), 0);
  const auto domains = read_corpus(folder_);
  ASSERT_EQ(domains.size(), 1U);
  EXPECT_EQ(domains[0].documents, std::vector<std::string>{"packed text"});
}

TEST_F(CorpusTest, RefusesWhatHoldsNoTextOrTheSameNameTwice) {
  EXPECT_NE(refusal<ArgumentError>(folder_).find("holds no text"), std::string::npos);
  EXPECT_NE(refusal<IoError>(folder_ / "none").find("none"), std::string::npos);
  write("a.txt", "one");
  write("a.md", "two");
  EXPECT_NE(refusal<ArgumentError>(folder_).find("two domains are called a"), std::string::npos);
}

}  // namespace
}  // namespace moekit::data
