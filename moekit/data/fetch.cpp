#include "moekit/data/fetch.h"

#include <archive.h>
#include <archive_entry.h>
#include <curl/curl.h>

#include <algorithm>
#include <cstdio>
#include <memory>
#include <set>

#include "moekit/core/error.h"
#include "moekit/core/files.h"
#include "moekit/core/version.h"
#include "moekit/data/checksum.h"
#include "moekit/data/compressed.h"

namespace moekit::data {
namespace fs = std::filesystem;
namespace {

constexpr uint64_t kMaxDownload = uint64_t{1} << 31;

struct Transfer {
  std::FILE* file;
  std::string name;
  std::int64_t before;  // bytes of an earlier transfer
  const FetchProgress& progress;
};

size_t on_data(char* bytes, size_t size, size_t count, void* user) {
  return std::fwrite(bytes, size, count, static_cast<Transfer*>(user)->file) * size;
}

int on_progress(void* user, curl_off_t total, curl_off_t done, curl_off_t, curl_off_t) {
  const auto* transfer = static_cast<Transfer*>(user);
  if (!transfer->progress) return 0;
  const std::int64_t all = total > 0 ? transfer->before + total : 0;
  return transfer->progress(transfer->name, transfer->before + done, all) ? 0 : 1;
}

std::string file_name(const std::string& url) { return url.substr(url.rfind('/') + 1); }

std::string with_mirror(const std::string& url, const std::string& mirror) {
  if (mirror.empty()) return url;
  return mirror + (mirror.ends_with('/') ? "" : "/") + file_name(url);
}

void check_sum(const std::string& bytes, const std::string& wanted, const std::string& what,
               const fs::path& part) {
  const std::string got = sha256(bytes);
  if (got == wanted) return;
  std::error_code ignored;
  fs::remove(part, ignored);
  throw FormatError(concat(what, ": SHA-256 is ", got, ", wanted ", wanted, "; removed"));
}

/// Unpacks the members of a tar archive that the data set asks for.
void unpack_members(const fs::path& archive_path, const DatasetRow& row, const std::string& url,
                    const fs::path& folder) {
  const std::unique_ptr<archive, int (*)(archive*)> reader(archive_read_new(), archive_read_free);
  archive_read_support_filter_all(reader.get());
  archive_read_support_format_tar(reader.get());
  const auto refuse = [&](const char* what) {
    const char* reason = archive_error_string(reader.get());
    throw FormatError(concat(archive_path.string(), ": ", what, ": ", reason ? reason : "?"));
  };
  if (archive_read_open_filename(reader.get(), archive_path.c_str(), 1 << 16) != ARCHIVE_OK) {
    refuse("cannot open");
  }
  std::set<std::string> missing;
  for (const auto& file : row.files) {
    if (file.url == url) missing.insert(file.name);
  }
  archive_entry* entry = nullptr;
  for (int status = 0; (status = archive_read_next_header(reader.get(), &entry)) != ARCHIVE_EOF;) {
    if (status != ARCHIVE_OK) refuse("broken");
    const std::string name = fs::path(archive_entry_pathname(entry)).filename().string();
    for (const auto& file : row.files) {
      if (file.url != url || file.name != name) continue;
      const auto size = archive_entry_size(entry);
      MOEKIT_CHECK_FORMAT(size >= 0 && static_cast<uint64_t>(size) <= kMaxDownload,
                          archive_path.string(), ": ", name, " has ", size, " bytes");
      std::string bytes(static_cast<size_t>(size), '\0');
      if (archive_read_data(reader.get(), bytes.data(), bytes.size()) != size) refuse("broken");
      if (!file.sha256.empty()) check_sum(bytes, file.sha256, name, archive_path);
      write_file_atomic(folder / name, bytes);
      missing.erase(name);
    }
  }
  MOEKIT_CHECK_FORMAT(missing.empty(), archive_path.string(), ": holds no ", *missing.begin());
}

void fetch_plain(const RemoteFile& file, const std::string& url, const fs::path& folder,
                 const FetchProgress& progress) {
  const fs::path target = folder / file_name(file.url);
  if (fs::exists(target) && sha256(read_unpacked(target, kMaxDownload)) == file.sha256) return;
  const fs::path part = target.string() + ".part";
  download(url, part, progress);
  std::string content;
  try {
    content = read_unpacked(part, kMaxDownload);
  } catch (const FormatError&) {
    std::error_code ignored;
    fs::remove(part, ignored);
    throw;
  }
  check_sum(content, file.sha256, url, part);
  fs::rename(part, target);
  sync_folder(folder);
}

void fetch_archive(const DatasetRow& row, const RemoteFile& file, const std::string& url,
                   const fs::path& folder, const FetchProgress& progress) {
  const fs::path part = folder / (file_name(file.url) + ".part");
  download(url, part, progress);
  check_sum(read_file(part, kMaxDownload), file.archive_sha256, url, part);
  unpack_members(part, row, file.url, folder);
  fs::remove(part);
}

}  // namespace

void download(const std::string& url, const fs::path& part, const FetchProgress& progress) {
  static const bool kInitialised = curl_global_init(CURL_GLOBAL_DEFAULT) == CURLE_OK;
  const std::unique_ptr<CURL, void (*)(CURL*)> curl(kInitialised ? curl_easy_init() : nullptr,
                                                    curl_easy_cleanup);
  if (!curl) throw IoError("libcurl refused");
  std::error_code error;
  std::int64_t have = fs::exists(part, error) ? static_cast<std::int64_t>(fs::file_size(part)) : 0;
  for (int attempt = 0;; ++attempt) {
    const std::unique_ptr<std::FILE, int (*)(std::FILE*)> file(
        std::fopen(part.c_str(), have > 0 ? "ab" : "wb"), std::fclose);
    if (!file) throw IoError(concat("cannot write ", part.string()));
    Transfer transfer{file.get(), file_name(url), have, progress};
    curl_easy_reset(curl.get());
    const std::string agent = concat("moekit/", version());
    curl_easy_setopt(curl.get(), CURLOPT_URL, url.c_str());
    curl_easy_setopt(curl.get(), CURLOPT_USERAGENT, agent.c_str());
    curl_easy_setopt(curl.get(), CURLOPT_PROTOCOLS_STR, "http,https");
    curl_easy_setopt(curl.get(), CURLOPT_FOLLOWLOCATION, 1L);
    curl_easy_setopt(curl.get(), CURLOPT_MAXREDIRS, 5L);
    curl_easy_setopt(curl.get(), CURLOPT_FAILONERROR, 1L);
    curl_easy_setopt(curl.get(), CURLOPT_CONNECTTIMEOUT, 20L);
    curl_easy_setopt(curl.get(), CURLOPT_LOW_SPEED_LIMIT, 1L);
    curl_easy_setopt(curl.get(), CURLOPT_LOW_SPEED_TIME, 60L);
    curl_easy_setopt(curl.get(), CURLOPT_MAXFILESIZE_LARGE, static_cast<curl_off_t>(kMaxDownload));
    curl_easy_setopt(curl.get(), CURLOPT_RESUME_FROM_LARGE, static_cast<curl_off_t>(have));
    curl_easy_setopt(curl.get(), CURLOPT_WRITEFUNCTION, &on_data);
    curl_easy_setopt(curl.get(), CURLOPT_WRITEDATA, &transfer);
    curl_easy_setopt(curl.get(), CURLOPT_NOPROGRESS, 0L);
    curl_easy_setopt(curl.get(), CURLOPT_XFERINFOFUNCTION, &on_progress);
    curl_easy_setopt(curl.get(), CURLOPT_XFERINFODATA, &transfer);
    const CURLcode code = curl_easy_perform(curl.get());
    long status = 0;
    curl_easy_getinfo(curl.get(), CURLINFO_RESPONSE_CODE, &status);
    if (code == CURLE_OK) return;
    // A server that cannot resume, or a part that is whole already: once more from the start.
    if (have > 0 && attempt == 0 && (code == CURLE_RANGE_ERROR || status == 416)) {
      have = 0;
      continue;
    }
    throw IoError(concat(url, ": ", curl_easy_strerror(code),
                         status >= 400 ? concat(" (HTTP ", status, ")") : "",
                         "; the same command goes on from what is there"));
  }
}

void fetch_dataset(const DatasetRow& row, const fs::path& folder, const std::string& mirror,
                   const FetchProgress& progress) {
  MOEKIT_CHECK(!row.generated(), "data set ", row.name, " is generated; nothing to fetch");
  MOEKIT_CHECK(!row.files.empty(), "data set ", row.name,
               " has no public address; put its files into a data folder");
  create_folders(folder);
  // Members of an archive are checked when they are unpacked; whole sets are left alone.
  const bool from_archive = !row.files.front().archive_sha256.empty();
  const auto there = [&](const RemoteFile& file) { return fs::exists(folder / file.name); };
  if (from_archive && std::all_of(row.files.begin(), row.files.end(), there)) return;
  std::set<std::string> archives;
  for (const auto& file : row.files) {
    const std::string url = with_mirror(file.url, mirror);
    if (file.archive_sha256.empty()) {
      fetch_plain(file, url, folder, progress);
    } else if (archives.insert(file.url).second) {
      fetch_archive(row, file, url, folder, progress);
    }
  }
}

}  // namespace moekit::data
