#include "moekit/data/corpora.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>

#include "moekit/core/files.h"
#include "moekit/data/compressed.h"
#include "tests/support/pack.h"
#include "tests/support/refusal.h"

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
  std::string told(const fs::path& path) {
    return moekit::refusal([&] { read_corpus(path); });
  }
  fs::path folder_;
};

TEST_F(CorpusTest, NamesOfDomainsAreUtf8) {
  write("b.txt", "one text");
  write("\xff/1.txt", "another");
  EXPECT_NE(refusal<ArgumentError>(folder_).find(", a domain, must be UTF-8"), std::string::npos);
}

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

TEST_F(CorpusTest, HiddenFoldersAndEmptyTextsAreLeftOut) {
  write("a/deep/.git/config", "hidden");
  write("a/.hidden/text", "hidden");
  write("a/deep/2", "two");
  write("a/deep/er/3", test_support::gzip("three"));
  write("a/0", "");
  write(".b/text", "hidden");
  write("c/empty", "");
  write("d.tar.xz", test_support::xz("four"));
  const auto domains = read_corpus(folder_);
  ASSERT_EQ(domains.size(), 2U);
  EXPECT_EQ(domains[0].name, "a");
  EXPECT_EQ(domains[0].documents, (std::vector<std::string>{"two", "three"}));
  EXPECT_EQ(domains[1].name, "d.tar");
  EXPECT_EQ(domains[1].documents, std::vector<std::string>{"four"});
}

TEST_F(CorpusTest, RefusalsNameTheFolderAndTheDomain) {
  EXPECT_EQ(told(folder_), folder_.string() + ": holds no text");
  write("empty", "");
  EXPECT_EQ(told(folder_ / "empty"), (folder_ / "empty").string() + ": holds no text");
  write("a/text", "one");
  write("a-b.txt", "two");
  EXPECT_EQ(told(folder_), "nothing was thrown");
  write("a.txt", "three");
  EXPECT_EQ(told(folder_), folder_.string() + ": two domains are called a");
  fs::remove(folder_ / "a.txt");
  write("c.gz", "\x1f\x8b");
  EXPECT_EQ(told(folder_), (folder_ / "c.gz").string() + ": the gzip data end too early");
}

/// Names in a folder, sorted.
std::vector<fs::path> plain_listing(const fs::path& folder) {
  std::vector<fs::path> out;
  for (const auto& entry : fs::directory_iterator(folder)) {
    if (entry.is_regular_file() && entry.path().filename().string()[0] != '.') {
      out.push_back(entry.path());
    }
  }
  std::sort(out.begin(), out.end());
  return out;
}

std::vector<std::string> plain_sayings(const fs::path& folder) {
  std::vector<std::string> out;
  for (const auto& file : plain_listing(folder)) {
    if (file.extension() == ".dat" || file.extension() == ".u8") continue;
    const std::string text = read_file(file);
    size_t begin = 0;
    for (size_t at = 0; at < text.size(); ++at) {
      if (at < begin || text.compare(at, 3, "\n%\n") != 0) continue;
      if (at > begin) out.push_back(text.substr(begin, at - begin));
      begin = at + 3;
    }
    if (begin < text.size()) out.push_back(text.substr(begin));
  }
  return out;
}

TEST(DefaultCorpus, IsWhatThePackagesHold) {
  const fs::path jargon = "/usr/share/doc/jargon-text/jargon.txt.gz";
  const fs::path games = "/usr/share/games/fortunes";
  const fs::path headers = "/usr/include/c++";
  if (!fs::exists(jargon) || !fs::exists(games / "computers") || !fs::exists(games / "de") ||
      !fs::exists(headers)) {
    GTEST_SKIP() << "jargon-text, fortunes, fortunes-de or libstdc++-dev is not installed";
  }
  const auto domains = default_corpus();
  ASSERT_EQ(domains.size(), 4U);
  EXPECT_EQ(domains[0].name, "jargon");
  ASSERT_EQ(domains[0].documents.size(), 1U);
  EXPECT_TRUE(domains[0].documents[0] == read_unpacked(jargon, 1 << 28));
  EXPECT_EQ(domains[1].name, "quotes");
  EXPECT_TRUE(domains[1].documents == plain_sayings(games));
  EXPECT_EQ(domains[2].name, "german");
  EXPECT_TRUE(domains[2].documents == plain_sayings(games / "de"));
  EXPECT_EQ(domains[3].name, "code");
  int newest = 0;
  for (const auto& entry : fs::directory_iterator(headers)) {
    newest = std::max(newest, std::atoi(entry.path().filename().c_str()));
  }
  std::vector<std::string> code;
  size_t bytes = 0;
  for (const auto& file : plain_listing(headers / std::to_string(newest) / "bits")) {
    const std::string text = read_file(file);
    bytes += text.size();
    if (bytes > 3U * 1024 * 1024) break;
    if (!text.empty()) code.push_back(text);
  }
  EXPECT_TRUE(domains[3].documents == code);
  EXPECT_GT(code.size(), 10U);
}

}  // namespace
}  // namespace moekit::data
