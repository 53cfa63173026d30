#include "moekit/core/files.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <fstream>

#include "moekit/core/error.h"

namespace moekit {
namespace fs = std::filesystem;
namespace {

std::string reason() { return std::strerror(errno); }

class Descriptor {
 public:
  explicit Descriptor(int fd) : fd_(fd) {}
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;
  ~Descriptor() {
    if (fd_ >= 0) ::close(fd_);
  }
  int get() const { return fd_; }

 private:
  int fd_;
};

void write_all(int fd, std::string_view bytes, const fs::path& path) {
  while (!bytes.empty()) {
    const ssize_t written = ::write(fd, bytes.data(), bytes.size());
    if (written < 0) {
      if (errno == EINTR) continue;
      throw IoError(concat("cannot write ", path.string(), ": ", reason()));
    }
    bytes.remove_prefix(static_cast<std::size_t>(written));
  }
}

}  // namespace

std::string read_file(const fs::path& path, std::uint64_t max_bytes) {
  std::error_code error;
  if (fs::is_directory(path, error)) {
    throw IoError(concat("cannot read ", path.string(), ": it is a folder"));
  }
  std::ifstream in(path, std::ios::binary);
  if (!in) throw IoError(concat("cannot open ", path.string(), ": ", reason()));
  in.seekg(0, std::ios::end);
  const auto size = in.tellg();
  if (size < 0) throw IoError(concat("cannot read ", path.string(), ": ", reason()));
  MOEKIT_CHECK_FORMAT(static_cast<std::uint64_t>(size) <= max_bytes, path.string(), ": ", size,
                      " bytes, at most ", max_bytes, " are accepted");
  std::string bytes(static_cast<std::size_t>(size), '\0');
  in.seekg(0);
  in.read(bytes.data(), size);
  if (!in) throw IoError(concat("cannot read ", path.string(), ": ", reason()));
  return bytes;
}

void sync_folder(const fs::path& folder) {
  const Descriptor fd(::open(folder.empty() ? "." : folder.c_str(), O_RDONLY | O_DIRECTORY));
  if (fd.get() < 0 || ::fsync(fd.get()) != 0) {
    throw IoError(concat("cannot sync folder ", folder.string(), ": ", reason()));
  }
}

void create_folders(const fs::path& folder) {
  std::error_code error;
  fs::create_directories(folder, error);
  if (error) {
    throw IoError(concat("cannot create folder ", folder.string(), ": ", error.message()));
  }
}

void write_file_atomic(const fs::path& path, std::string_view bytes) {
  const fs::path temporary = path.string() + ".tmp";
  try {
    const Descriptor fd(::open(temporary.c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0644));
    if (fd.get() < 0) throw IoError(concat("cannot create ", temporary.string(), ": ", reason()));
    write_all(fd.get(), bytes, temporary);
    if (::fsync(fd.get()) != 0) {
      throw IoError(concat("cannot sync ", temporary.string(), ": ", reason()));
    }
    if (::rename(temporary.c_str(), path.c_str()) != 0) {
      throw IoError(
          concat("cannot rename ", temporary.string(), " to ", path.string(), ": ", reason()));
    }
  } catch (...) {
    ::unlink(temporary.c_str());
    throw;
  }
  sync_folder(path.parent_path());
}

FolderTransaction::FolderTransaction(fs::path target)
    : target_(std::move(target)), temporary_(target_.string() + ".tmp") {
  fs::remove_all(temporary_);
  create_folders(temporary_);
}

FolderTransaction::~FolderTransaction() {
  if (committed_) return;
  std::error_code ignored;
  fs::remove_all(temporary_, ignored);
}

void FolderTransaction::commit() {
  std::error_code error;
  fs::remove_all(target_, error);
  if (!error) fs::rename(temporary_, target_, error);
  if (error) {
    throw IoError(concat("cannot move ", temporary_.string(), " to ", target_.string(), ": ",
                         error.message()));
  }
  committed_ = true;
  sync_folder(target_.parent_path());
}

}  // namespace moekit
