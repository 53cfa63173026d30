#include "moekit/data/fetch.h"

#include <archive.h>
#include <archive_entry.h>
#include <gtest/gtest.h>

#include "moekit/core/error.h"
#include "moekit/core/files.h"
#include "moekit/data/checksum.h"
#include "tests/support/http_server.h"

namespace moekit::data {
namespace {
namespace fs = std::filesystem;

class FetchTest : public testing::Test {
 protected:
  void SetUp() override {
    folder_ = fs::temp_directory_path() / concat("moekit-fetch-", ::getpid());
    fs::remove_all(folder_);
    content_.resize(100'000);
    for (size_t i = 0; i < content_.size(); ++i) content_[i] = static_cast<char>(i * i % 251);
    server_.files["a.bin"] = content_;
    row_.name = "test";
    row_.files = {{"a.bin", server_.url() + "a.bin", sha256(content_)}};
    row_.present = [](const fs::path&) { return false; };
  }
  void TearDown() override { fs::remove_all(folder_); }
  bool leftovers() const { return fs::exists(folder_ / "a.bin.part"); }

  fs::path folder_;
  std::string content_;
  test_support::HttpServer server_;
  DatasetRow row_;
};

TEST_F(FetchTest, DownloadsChecksAndDoesNotDownloadTwice) {
  fetch_dataset(row_, folder_);
  EXPECT_EQ(read_file(folder_ / "a.bin"), content_);
  EXPECT_FALSE(leftovers());
  fetch_dataset(row_, folder_);
  EXPECT_EQ(server_.requests, 1);
}

TEST_F(FetchTest, GoesOnFromWhereABrokenTransferStopped) {
  server_.break_after = 30'000;
  EXPECT_THROW(fetch_dataset(row_, folder_), IoError);
  EXPECT_TRUE(leftovers());
  EXPECT_FALSE(fs::exists(folder_ / "a.bin"));
  server_.break_after = 0;
  fetch_dataset(row_, folder_);
  EXPECT_EQ(server_.last_start, 30'000U);
  EXPECT_EQ(read_file(folder_ / "a.bin"), content_);
}

TEST_F(FetchTest, StartsAgainWhereTheServerCannotResume) {
  server_.break_after = 30'000;
  EXPECT_THROW(fetch_dataset(row_, folder_), IoError);
  server_.break_after = 0;
  server_.know_ranges = false;
  fetch_dataset(row_, folder_);
  EXPECT_EQ(read_file(folder_ / "a.bin"), content_);
}

TEST_F(FetchTest, RefusesAWrongChecksumAndKeepsNothing) {
  server_.files["a.bin"][5] ^= 1;
  EXPECT_THROW(fetch_dataset(row_, folder_), FormatError);
  EXPECT_FALSE(leftovers());
  EXPECT_FALSE(fs::exists(folder_ / "a.bin"));
}

TEST_F(FetchTest, NamesTheAddressOfAMissingFile) {
  row_.files[0].url = server_.url() + "none.bin";
  try {
    fetch_dataset(row_, folder_);
    FAIL();
  } catch (const IoError& error) {
    EXPECT_NE(std::string(error.what()).find("none.bin"), std::string::npos);
    EXPECT_NE(std::string(error.what()).find("404"), std::string::npos);
  }
}

TEST_F(FetchTest, TakesTheFilesFromAMirror) {
  row_.files[0].url = "http://127.0.0.1:1/far/away/a.bin";
  fetch_dataset(row_, folder_, server_.url());
  EXPECT_EQ(read_file(folder_ / "a.bin"), content_);
}

TEST_F(FetchTest, StopsWhenTold) {
  EXPECT_THROW(
      fetch_dataset(row_, folder_, {}, [](const std::string&, int64_t, int64_t) { return false; }),
      IoError);
}

TEST_F(FetchTest, UnpacksTheWantedMembersOfAnArchive) {
  const fs::path packed = fs::temp_directory_path() / concat("moekit-", ::getpid(), ".tar.gz");
  archive* writer = archive_write_new();
  archive_write_add_filter_gzip(writer);
  archive_write_set_format_ustar(writer);
  archive_write_open_filename(writer, packed.c_str());
  for (const char* name : {"dir/a.bin", "../evil.bin"}) {
    archive_entry* entry = archive_entry_new();
    archive_entry_set_pathname(entry, name);
    archive_entry_set_size(entry, static_cast<la_int64_t>(content_.size()));
    archive_entry_set_filetype(entry, AE_IFREG);
    archive_write_header(writer, entry);
    archive_write_data(writer, content_.data(), content_.size());
    archive_entry_free(entry);
  }
  archive_write_free(writer);
  server_.files["all.tar.gz"] = read_file(packed);
  fs::remove(packed);
  row_.files = {{"a.bin", server_.url() + "all.tar.gz", sha256(content_),
                 sha256(server_.files["all.tar.gz"])}};
  fetch_dataset(row_, folder_);
  EXPECT_EQ(read_file(folder_ / "a.bin"), content_);
  EXPECT_EQ(std::distance(fs::directory_iterator(folder_), {}), 1);
  EXPECT_FALSE(fs::exists(folder_.parent_path() / "evil.bin"));
}

}  // namespace
}  // namespace moekit::data
