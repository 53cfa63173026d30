#include "moekit/data/fetch.h"

#include <archive.h>
#include <archive_entry.h>
#include <curl/curl.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <map>
#include <memory>
#include <set>
#include <vector>

#include "moekit/core/checksum.h"
#include "moekit/core/error.h"
#include "moekit/core/files.h"
#include "moekit/core/json.h"
#include "moekit/core/version.h"
#include "moekit/data/compressed.h"

namespace moekit::data {
namespace fs = std::filesystem;
namespace {

constexpr uint64_t kMaxDownload = uint64_t{1} << 31;
constexpr size_t kReadBytes = 1 << 20;

struct Transfer {
  std::FILE* file;
  std::string name;
  std::int64_t before;  // bytes of an earlier transfer
  const FetchProgress& progress;
  uint64_t written = 0;
  std::string fault = {};  // why writing stopped
};

size_t on_data(char* bytes, size_t size, size_t count, void* user) {
  auto* transfer = static_cast<Transfer*>(user);
  // A server that tells no length has no end that libcurl could refuse.
  if (static_cast<uint64_t>(transfer->before) + transfer->written + size * count > kMaxDownload) {
    transfer->fault = concat("more than ", kMaxDownload, " bytes");
    return 0;
  }
  const size_t got = std::fwrite(bytes, size, count, transfer->file) * size;
  if (got != size * count) transfer->fault = concat("cannot write: ", std::strerror(errno));
  transfer->written += got;
  return got;
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

/// Removes what an error leaves; that it cannot is no second error.
void drop(const fs::path& path) {
  std::error_code ignored;
  fs::remove(path, ignored);
}

void check_sum(const std::string& got, const std::string& wanted, const std::string& what,
               const fs::path& part) {
  if (got == wanted) return;
  drop(part);
  throw FormatError(concat(what, ": SHA-256 is ", got, ", wanted ", wanted, "; removed"));
}

/// SHA-256 of what `read(to, size)` gives until its end. @throws FormatError above `kMaxDownload`
template <typename Read>
std::string sum_of(Read read, const std::string& where) {
  Sha256 sum;
  std::vector<char> chunk(kReadBytes);
  uint64_t total = 0;
  for (size_t got = kReadBytes; got == kReadBytes;) {
    got = read(chunk.data(), kReadBytes);
    total += got;
    MOEKIT_CHECK_FORMAT(total <= kMaxDownload, where, ": more than ", kMaxDownload, " bytes");
    sum.add({chunk.data(), got});
  }
  return sum.hex();
}

std::string unpacked_sum(const fs::path& path) {
  UnpackedFile file(path);
  return sum_of([&](char* to, size_t size) { return file.read(to, size); }, path.string());
}

/// Whether a file is there and has that content; a broken one has not.
bool has_sum(const fs::path& path, const std::string& wanted) {
  std::error_code error;
  if (!fs::exists(path, error)) return false;
  try {
    return unpacked_sum(path) == wanted;
  } catch (const FormatError&) {
    return false;
  }
}

/// Reads a tar archive, in any packing that libarchive knows.
class TarReader {
 public:
  explicit TarReader(const fs::path& path) : where_(path.string()) {
    archive_read_support_filter_all(reader_.get());
    archive_read_support_format_tar(reader_.get());
    if (archive_read_open_filename(reader_.get(), path.c_str(), 1 << 16) != ARCHIVE_OK) {
      refuse("cannot open");
    }
  }
  /// The next member, null behind the last one.
  archive_entry* next() {
    archive_entry* entry = nullptr;
    const int status = archive_read_next_header(reader_.get(), &entry);
    if (status == ARCHIVE_EOF) return nullptr;
    if (status != ARCHIVE_OK) refuse("broken");
    return entry;
  }
  /// Of the member's bytes, as `UnpackedFile::read`.
  size_t read(char* to, size_t size) {
    const auto got = archive_read_data(reader_.get(), to, size);
    if (got < 0) refuse("broken");
    return static_cast<size_t>(got);
  }
  const std::string& where() const { return where_; }

 private:
  [[noreturn]] void refuse(const char* what) {
    const char* reason = archive_error_string(reader_.get());
    throw FormatError(concat(where_, ": ", what, ": ", reason ? reason : "?"));
  }

  std::string where_;
  std::unique_ptr<archive, int (*)(archive*)> reader_{archive_read_new(), archive_read_free};
};

/// A member's path, checked: below where it is unpacked, and a file of its own.
fs::path member_path(const TarReader& tar, archive_entry* entry) {
  const char* const name = archive_entry_pathname(entry);
  MOEKIT_CHECK_FORMAT(name != nullptr, tar.where(), ": a member's name is no text");
  fs::path path = name;
  const bool leaves = path.is_absolute() || std::find(path.begin(), path.end(), "..") != path.end();
  MOEKIT_CHECK_FORMAT(!leaves, tar.where(), ": member ", name,
                      " lies outside the archive's folder");
  const bool link =
      archive_entry_hardlink(entry) != nullptr || archive_entry_symlink(entry) != nullptr;
  const auto type = archive_entry_filetype(entry);
  MOEKIT_CHECK_FORMAT(!link && (type == AE_IFREG || type == AE_IFDIR), tar.where(), ": member ",
                      name, link ? " is a link" : " is no regular file");
  return path;
}

/// Unpacks the members of a tar archive that the data set asks for.
void unpack_members(const fs::path& archive_path, const DatasetRow& row, const std::string& url,
                    const fs::path& folder) {
  TarReader tar(archive_path);
  std::map<std::string, std::string> missing;  // name -> checksum
  for (const auto& file : row.files) {
    if (file.url == url) missing[file.name] = file.sha256;
  }
  std::set<std::string> found;
  while (archive_entry* entry = tar.next()) {
    const std::string name = member_path(tar, entry).filename().string();
    if (archive_entry_filetype(entry) != AE_IFREG) continue;
    MOEKIT_CHECK_FORMAT(found.count(name) == 0, tar.where(), ": holds ", name, " twice");
    const auto wanted = missing.find(name);
    if (wanted == missing.end()) continue;
    AtomicFile out(folder / name);
    const std::string sum = sum_of(
        [&](char* to, size_t size) {
          size_t got = 0;
          for (size_t more = 1; got < size && more > 0; got += more) {
            more = tar.read(to + got, size - got);
          }
          out.append({to, got});
          return got;
        },
        tar.where() + ": " + name);
    if (!wanted->second.empty()) check_sum(sum, wanted->second, name, archive_path);
    out.commit();
    missing.erase(wanted);
    found.insert(name);
  }
  MOEKIT_CHECK_FORMAT(missing.empty(), tar.where(), ": holds no ", missing.begin()->first);
}

void fetch_plain(const RemoteFile& file, const std::string& url, const fs::path& folder,
                 const FetchProgress& progress) {
  const fs::path target = folder / file_name(file.url);
  if (has_sum(target, file.sha256)) return;
  const fs::path part = target.string() + ".part";
  download(url, part, progress);
  std::string sum;
  try {
    sum = unpacked_sum(part);
  } catch (const FormatError&) {
    drop(part);
    throw;
  }
  check_sum(sum, file.sha256, url, part);
  std::error_code error;
  fs::rename(part, target, error);
  if (error) {
    throw IoError(
        concat("cannot move ", part.string(), " to ", target.string(), ": ", error.message()));
  }
  sync_folder(folder);
}

void fetch_archive(const DatasetRow& row, const RemoteFile& file, const std::string& url,
                   const fs::path& folder, const FetchProgress& progress) {
  const fs::path part = folder / (file_name(file.url) + ".part");
  download(url, part, progress);
  const MappedFile bytes(part);
  check_sum(sha256({bytes.data(), bytes.size()}), file.archive_sha256, url, part);
  try {
    unpack_members(part, row, file.url, folder);
  } catch (const FormatError&) {
    drop(part);  // to go on from it would not mend it
    throw;
  }
  drop(part);
}

}  // namespace

void download(const std::string& url, const fs::path& part, const FetchProgress& progress) {
  static const bool kInitialised = curl_global_init(CURL_GLOBAL_DEFAULT) == CURLE_OK;
  const std::unique_ptr<CURL, void (*)(CURL*)> curl(kInitialised ? curl_easy_init() : nullptr,
                                                    curl_easy_cleanup);
  if (!curl) throw IoError("libcurl refused");
  std::error_code error;
  const auto size = fs::file_size(part, error);
  std::int64_t have = error ? 0 : static_cast<std::int64_t>(size);
  for (int attempt = 0;; ++attempt) {
    const std::unique_ptr<std::FILE, int (*)(std::FILE*)> file(
        std::fopen(part.c_str(), have > 0 ? "ab" : "wb"), std::fclose);
    if (!file) throw IoError(concat("cannot write ", part.string(), ": ", std::strerror(errno)));
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
    if (transfer.fault.empty() && std::fflush(file.get()) != 0) {
      transfer.fault = concat("cannot write: ", std::strerror(errno));
    }
    if (!transfer.fault.empty()) throw IoError(concat(part.string(), ": ", transfer.fault));
    if (code == CURLE_OK) return;
    // A server that cannot resume, or a part that is whole already: once more from the start.
    if (have > 0 && attempt == 0 && (code == CURLE_RANGE_ERROR || status == 416)) {
      have = 0;
      continue;
    }
    const bool nothing = fs::file_size(part, error) == 0 && !error;
    if (nothing) drop(part);
    throw IoError(concat(url, ": ", curl_easy_strerror(code),
                         status >= 400 ? concat(" (HTTP ", status, ")") : "",
                         nothing ? "" : "; the same command goes on from what is there"));
  }
}

void fetch_dataset(const DatasetRow& row, const fs::path& folder, const std::string& mirror,
                   const FetchProgress& progress) {
  MOEKIT_CHECK(!row.generated(), "data set ", row.name, " is generated; nothing to fetch");
  MOEKIT_CHECK(!row.files.empty(), "data set ", row.name,
               " has no public address; put its files into a data folder");
  MOEKIT_CHECK(mirror.empty() || mirror.starts_with("http://") || mirror.starts_with("https://"),
               "--mirror must begin with http:// or https://; got ", in_quotes(mirror));
  create_folders(folder);
  // Members of an archive are checked when they are unpacked; whole sets are left alone.
  const bool from_archive = !row.files.front().archive_sha256.empty();
  const auto there = [&](const RemoteFile& file) {
    std::error_code error;
    return fs::is_regular_file(folder / file.name, error);
  };
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
