#include "moekit/data/fetch.h"

#include <archive.h>
#include <archive_entry.h>
#include <gtest/gtest.h>
#include <sys/resource.h>

#include <csignal>
#include <random>

#include "moekit/core/checksum.h"
#include "moekit/core/error.h"
#include "moekit/core/files.h"
#include "moekit/core/version.h"
#include "tests/support/http_server.h"
#include "tests/support/pack.h"
#include "tests/support/refusal.h"

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
  void serve_archive(const std::string& bytes) {
    server_.files["all.tar.gz"] = bytes;
    row_.files = {{"a.bin", server_.url() + "all.tar.gz", sha256(content_), sha256(bytes)}};
  }
  template <typename E>
  std::string refusal() {
    try {
      fetch_dataset(row_, folder_);
    } catch (const E& error) {
      return error.what();
    }
    return "no error";
  }
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

TEST_F(FetchTest, ATruncatedFileThatIsThereIsFetchedAgain) {
  fs::create_directories(folder_);
  write_file_atomic(folder_ / "a.bin", "\x1f\x8b\x08");
  fetch_dataset(row_, folder_);
  EXPECT_EQ(read_file(folder_ / "a.bin"), content_);
}

TEST_F(FetchTest, AFullDiskIsNamed) {
  // A limit on file sizes stands for it.
  rlimit before{};
  ::getrlimit(RLIMIT_FSIZE, &before);
  const auto handler = std::signal(SIGXFSZ, SIG_IGN);
  const rlimit small{1000, before.rlim_max};
  ::setrlimit(RLIMIT_FSIZE, &small);
  const std::string text = refusal<IoError>();
  ::setrlimit(RLIMIT_FSIZE, &before);
  std::signal(SIGXFSZ, handler);
  EXPECT_NE(text.find("a.bin.part: cannot write: File too large"), std::string::npos) << text;
}

/// A member of a tar archive.
struct Member {
  std::string name;
  mode_t type = AE_IFREG;
  std::string link = {};  ///< hard for a file, else symbolic
};

std::string tar_gz(const std::vector<Member>& members, const std::string& content) {
  const fs::path packed = fs::temp_directory_path() / concat("moekit-", ::getpid(), ".tar.gz");
  archive* writer = archive_write_new();
  archive_write_add_filter_gzip(writer);
  archive_write_set_format_ustar(writer);
  archive_write_open_filename(writer, packed.c_str());
  for (const auto& member : members) {
    const bool file = member.type == AE_IFREG && member.link.empty();
    archive_entry* entry = archive_entry_new();
    archive_entry_set_pathname(entry, member.name.c_str());
    archive_entry_set_filetype(entry, member.type);
    archive_entry_set_size(entry, file ? static_cast<la_int64_t>(content.size()) : 0);
    if (member.type == AE_IFLNK) archive_entry_set_symlink(entry, member.link.c_str());
    if (member.type == AE_IFREG && !file) archive_entry_set_hardlink(entry, member.link.c_str());
    archive_write_header(writer, entry);
    if (file) archive_write_data(writer, content.data(), content.size());
    archive_entry_free(entry);
  }
  archive_write_free(writer);
  auto bytes = read_file(packed);
  fs::remove(packed);
  return bytes;
}

TEST_F(FetchTest, UnpacksTheWantedMembersOfAnArchive) {
  serve_archive(tar_gz({{"dir", AE_IFDIR}, {"dir/a.bin"}, {"dir/other.bin"}}, content_));
  fetch_dataset(row_, folder_);
  EXPECT_EQ(read_file(folder_ / "a.bin"), content_);
  EXPECT_EQ(std::distance(fs::directory_iterator(folder_), {}), 1);
}

TEST_F(FetchTest, RefusesArchivesThatReachOutOrHoldNoPlainFiles) {
  const auto refused = [&](const std::vector<Member>& members, const char* text) {
    fs::remove_all(folder_);
    serve_archive(tar_gz(members, content_));
    row_.files[0].sha256.clear();  // where only the archive's is known
    EXPECT_NE(refusal<FormatError>().find(text), std::string::npos)
        << refusal<FormatError>() << ", wanted " << text;
    EXPECT_FALSE(fs::exists(folder_ / "a.bin"));
    EXPECT_TRUE(fs::is_empty(folder_));
  };
  refused({{"../a.bin"}}, "member ../a.bin lies outside the archive's folder");
  refused({{"dir/../../evil.bin"}, {"a.bin"}}, "evil.bin lies outside");
  refused({{"/tmp/a.bin"}}, "member /tmp/a.bin lies outside");
  refused({{"a.bin", AE_IFLNK, "/etc/passwd"}}, "member a.bin is a link");
  refused({{"other"}, {"a.bin", AE_IFREG, "other"}}, "member a.bin is a link");
  refused({{"a.bin", AE_IFIFO}}, "member a.bin is no regular file");
  refused({{"other"}}, "holds no a.bin");
  serve_archive(tar_gz({{"a.bin"}, {"dir/a.bin"}}, content_));
  EXPECT_NE(refusal<FormatError>().find("holds a.bin twice"), std::string::npos);
  EXPECT_FALSE(fs::exists(folder_.parent_path() / "evil.bin"));
}

TEST_F(FetchTest, RefusesWhatItCannotFetchInWords) {
  EXPECT_EQ(moekit::refusal([&] { fetch_dataset(row_, folder_, "ftp://x"); }),
            "--mirror must begin with http:// or https://; got \"ftp://x\"");
  EXPECT_EQ(
      moekit::refusal([&] { fetch_dataset(row_, folder_, "https://127.0.0.1:1"); }).substr(0, 28),
      "https://127.0.0.1:1/a.bin: C");  // tried, and nobody there
  auto row = row_;
  row.files.clear();
  EXPECT_EQ(moekit::refusal([&] { fetch_dataset(row, folder_); }),
            "data set test has no public address; put its files into a data folder");
  row.present = nullptr;
  EXPECT_EQ(moekit::refusal([&] { fetch_dataset(row, folder_); }),
            "data set test is generated; nothing to fetch");
  EXPECT_EQ(server_.requests, 0);
}

TEST_F(FetchTest, TellsTheChecksumsTheAddressAndWhatToDo) {
  const std::string wrong(64, '0');
  row_.files[0].sha256 = wrong;
  EXPECT_EQ(refusal<FormatError>(), concat(server_.url(), "a.bin: SHA-256 is ", sha256(content_),
                                           ", wanted ", wrong, "; removed"));
  EXPECT_TRUE(fs::is_empty(folder_));
  row_.files[0].url = server_.url() + "none.bin";
  const std::string missing = server_.url() + "none.bin: HTTP response code said error (HTTP 404)";
  EXPECT_EQ(refusal<IoError>(), missing);
  EXPECT_TRUE(fs::is_empty(folder_));  // nothing came
  write_file_atomic(folder_ / "none.bin.part", "begun");
  EXPECT_EQ(refusal<IoError>(), missing + "; the same command goes on from what is there");
  EXPECT_EQ(read_file(folder_ / "none.bin.part"), "begun");
  fs::remove(folder_ / "none.bin.part");
  fs::create_directories(folder_ / "none.bin.part");
  EXPECT_EQ(refusal<IoError>(),
            concat("cannot write ", (folder_ / "none.bin.part").string(), ": Is a directory"));
}

TEST_F(FetchTest, ABrokenTransferSaysHowToGoOn) {
  server_.break_after = 30'000;
  const auto text = refusal<IoError>();
  EXPECT_TRUE(text.starts_with(server_.url() + "a.bin: ")) << text;
  EXPECT_TRUE(text.ends_with("; the same command goes on from what is there")) << text;
  EXPECT_EQ(text.find("HTTP "), std::string::npos) << text;
  EXPECT_EQ(fs::file_size(folder_ / "a.bin.part"), 30'000U);
}

TEST_F(FetchTest, APartThatIsWholeIsTakenAndALongerOneIsNot) {
  fs::create_directories(folder_);
  write_file_atomic(folder_ / "a.bin.part", content_);
  fetch_dataset(row_, folder_);
  EXPECT_EQ(read_file(folder_ / "a.bin"), content_);
  fs::remove(folder_ / "a.bin");
  write_file_atomic(folder_ / "a.bin.part", content_ + "more");
  EXPECT_NE(refusal<Error>(), "no error");
  fetch_dataset(row_, folder_);
  EXPECT_EQ(read_file(folder_ / "a.bin"), content_);
}

TEST_F(FetchTest, TellsHowMuchOfHowMuchIsThere) {
  std::vector<std::string> names;
  int64_t last = -1;
  int64_t all = -1;
  const FetchProgress progress = [&](const std::string& name, int64_t done, int64_t total) {
    names.push_back(name);
    EXPECT_GE(done, last);
    EXPECT_TRUE(total == 0 || total == 100'000) << total;
    last = done;
    all = total;
    return true;
  };
  fetch_dataset(row_, folder_, {}, progress);
  EXPECT_EQ(last, 100'000);
  EXPECT_EQ(all, 100'000);
  ASSERT_FALSE(names.empty());
  EXPECT_EQ(names.front(), "a.bin");
  fs::remove(folder_ / "a.bin");
  write_file_atomic(folder_ / "a.bin.part", content_.substr(0, 60'000));
  last = 60'000;  // never less than what was there
  fetch_dataset(row_, folder_, {}, progress);
  EXPECT_EQ(last, 100'000);
  EXPECT_EQ(all, 100'000);
  EXPECT_EQ(read_file(folder_ / "a.bin"), content_);
  fs::remove(folder_ / "a.bin");
  EXPECT_EQ(moekit::refusal([&] {
              fetch_dataset(row_, folder_, {},
                            [](const std::string&, int64_t, int64_t) { return false; });
            }).substr(0, server_.url().size() + 11),
            server_.url() + "a.bin: Oper");
}

TEST_F(FetchTest, SaysWhoItIsAndFollowsFiveRedirections) {
  for (int i = 1; i <= 6; ++i) {
    server_.redirects[concat("moved", i)] = i == 1 ? "/a.bin" : concat("/moved", i - 1);
  }
  create_folders(folder_);
  download(server_.url() + "moved5", folder_ / "part");
  EXPECT_EQ(read_file(folder_ / "part"), content_);
  EXPECT_NE(server_.last_request.find(concat("User-Agent: moekit/", version(), "\r\n")),
            std::string::npos)
      << server_.last_request;
  EXPECT_TRUE(moekit::refusal([&] {
                download(server_.url() + "moved6", folder_ / "other");
              }).starts_with(server_.url() + "moved6: Number of redirects hit maximum"));
  // No other kind of address.
  EXPECT_TRUE(moekit::refusal([&] {
                download("file:///etc/hostname", folder_ / "other");
              }).starts_with("file:///etc/hostname: Unsupported protocol"));
}

TEST_F(FetchTest, TakesNoMoreThanTwoGibibytes) {
  create_folders(folder_);
  const auto told = [&](size_t length) {
    server_.claimed_length = length;
    return moekit::refusal(
        [&] { download(server_.url() + "a.bin", folder_ / concat("part", length)); });
  };
  const std::string limit = server_.url() + "a.bin: Maximum file size exceeded";
  EXPECT_EQ(told((size_t{1} << 31) + 1), limit);
  EXPECT_FALSE(told(size_t{1} << 31).starts_with(limit));  // it hangs up too early
}

TEST_F(FetchTest, PackedFilesStayPackedAndAreCheckedUnpacked) {
  const std::string large(3'000'000, 'x');  // of several pieces
  server_.files["b.bin.gz"] = test_support::gzip(large);
  row_.files = {{"b.bin", server_.url() + "b.bin.gz", sha256(large)}};
  fetch_dataset(row_, folder_, server_.url().substr(0, server_.url().size() - 1));
  EXPECT_EQ(read_file(folder_ / "b.bin.gz"), server_.files["b.bin.gz"]);
  fetch_dataset(row_, folder_);
  EXPECT_EQ(server_.requests, 1);
  // What does not unpack is not kept.
  server_.files["b.bin.gz"] = test_support::gzip(large).substr(0, 50);
  fs::remove(folder_ / "b.bin.gz");
  EXPECT_EQ(refusal<FormatError>(),
            (folder_ / "b.bin.gz.part").string() + ": the gzip data end too early");
  EXPECT_TRUE(fs::is_empty(folder_));
  // Nor is a file of the same name with another content taken for it.
  server_.files["b.bin.gz"] = test_support::gzip(large);
  write_file_atomic(folder_ / "b.bin.gz", "else");
  fetch_dataset(row_, folder_);
  EXPECT_EQ(server_.requests, 3);
  EXPECT_EQ(read_file(folder_ / "b.bin.gz"), server_.files["b.bin.gz"]);
}

TEST_F(FetchTest, AnArchiveOfSeveralFilesIsFetchedOnceAndNotWhereAllAreThere) {
  content_ = std::string(2'500'000, 'y');  // of several pieces
  content_[2'000'000] = 'z';
  serve_archive(tar_gz({{"d/a.bin"}, {"d/b.bin"}, {"c.bin"}}, content_));
  row_.files.push_back(row_.files[0]);
  row_.files[1].name = "b.bin";
  fetch_dataset(row_, folder_);
  EXPECT_EQ(server_.requests, 1);
  EXPECT_TRUE(read_file(folder_ / "a.bin") == content_);
  EXPECT_TRUE(read_file(folder_ / "b.bin") == content_);
  EXPECT_EQ(std::distance(fs::directory_iterator(folder_), {}), 2);
  fetch_dataset(row_, folder_);
  EXPECT_EQ(server_.requests, 1);
  fs::remove(folder_ / "b.bin");
  fetch_dataset(row_, folder_);
  EXPECT_EQ(server_.requests, 2);
  EXPECT_TRUE(read_file(folder_ / "b.bin") == content_);
}

TEST_F(FetchTest, FaultsOfArchivesAreToldAndTheyAreNotKept) {
  const auto told = [&](const std::string& bytes) {
    fs::remove_all(folder_);
    serve_archive(bytes);
    const auto text = refusal<FormatError>();
    EXPECT_FALSE(fs::exists(folder_ / "all.tar.gz.part"));
    const auto where = (folder_ / "all.tar.gz.part").string();
    return text.starts_with(where) ? text.substr(where.size()) : text;
  };
  std::mt19937 generator(1);
  content_.resize(1'500'000);
  for (auto& byte : content_) byte = static_cast<char>(generator());  // that does not pack
  const std::string good = tar_gz({{"a.bin"}}, content_);
  EXPECT_EQ(told(tar_gz({{"b.bin"}}, content_)), ": holds no a.bin");
  EXPECT_EQ(told(tar_gz({{"a.bin"}, {"d/a.bin"}}, content_)), ": holds a.bin twice");
  EXPECT_EQ(told("no archive at all"), ": cannot open: Unrecognized archive format");
  EXPECT_EQ(told(good.substr(0, good.size() / 2)), ": broken: truncated gzip input");
  fs::remove_all(folder_);
  serve_archive(good);
  row_.files[0].archive_sha256 = sha256("else");
  EXPECT_EQ(refusal<FormatError>(), concat(server_.url(), "all.tar.gz: SHA-256 is ", sha256(good),
                                           ", wanted ", sha256("else"), "; removed"));
  EXPECT_TRUE(fs::is_empty(folder_));
  serve_archive(good);
  row_.files[0].sha256 = sha256("else");
  EXPECT_EQ(refusal<FormatError>(), concat("a.bin: SHA-256 is ", sha256(content_), ", wanted ",
                                           sha256("else"), "; removed"));
  EXPECT_TRUE(fs::is_empty(folder_));
}

TEST_F(FetchTest, ARowMayHaveFilesOfTheirOwnBesideAnArchive) {
  server_.files["b.bin"] = "of its own";
  serve_archive(tar_gz({{"a.bin"}}, content_));
  row_.files.push_back({"b.bin", server_.url() + "b.bin", sha256("of its own")});
  fetch_dataset(row_, folder_);
  EXPECT_EQ(read_file(folder_ / "a.bin"), content_);
  EXPECT_EQ(read_file(folder_ / "b.bin"), "of its own");
}

}  // namespace
}  // namespace moekit::data
