#include "moekit/core/files.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
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

AtomicFile::AtomicFile(fs::path path)
    : path_(std::move(path)),
      temporary_(path_.string() + ".tmp"),
      fd_(::open(temporary_.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644)) {
  if (fd_ < 0) throw IoError(concat("cannot create ", temporary_.string(), ": ", reason()));
}

AtomicFile::~AtomicFile() { discard(); }

void AtomicFile::discard() {
  if (fd_ < 0) return;
  ::close(fd_);
  fd_ = -1;
  ::unlink(temporary_.c_str());
}

void AtomicFile::fail(std::string_view what) {
  const std::string message = concat("cannot ", what, ": ", reason());
  discard();
  throw IoError(message);
}

void AtomicFile::append(std::string_view bytes) {
  if (fd_ < 0) throw IoError(concat("cannot write ", path_.string(), ": it is closed"));
  while (!bytes.empty()) {
    const ssize_t written = ::write(fd_, bytes.data(), bytes.size());
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) fail("write " + temporary_.string());
    bytes.remove_prefix(static_cast<std::size_t>(written));
  }
}

void AtomicFile::commit() {
  if (fd_ < 0) throw IoError(concat("cannot write ", path_.string(), ": it is closed"));
  while (::fsync(fd_) != 0) {
    if (errno != EINTR) fail("sync " + temporary_.string());
  }
  if (::rename(temporary_.c_str(), path_.c_str()) != 0) {
    fail(concat("rename ", temporary_.string(), " to ", path_.string()));
  }
  ::close(fd_);
  fd_ = -1;
  sync_folder(path_.parent_path());
}

void write_file_atomic(const fs::path& path, std::string_view bytes) {
  AtomicFile file(path);
  file.append(bytes);
  file.commit();
}

MappedFile::MappedFile(const fs::path& path) {
  // Without O_NONBLOCK, opening a pipe would wait for a writer.
  const Descriptor fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
  struct stat status {};
  if (fd.get() < 0 || ::fstat(fd.get(), &status) != 0) {
    throw IoError(concat("cannot open ", path.string(), ": ", reason()));
  }
  if (!S_ISREG(status.st_mode)) {
    throw IoError(concat("cannot read ", path.string(), ": it is no regular file"));
  }
  size_ = static_cast<std::uint64_t>(status.st_size);
  if (size_ == 0) return;
  // Without MAP_NORESERVE, a writable mapping of a file larger than the memory would be refused.
  void* memory =
      ::mmap(nullptr, size_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_NORESERVE, fd.get(), 0);
  if (memory == MAP_FAILED) throw IoError(concat("cannot map ", path.string(), ": ", reason()));
  data_ = static_cast<char*>(memory);
}

MappedFile::~MappedFile() {
  if (data_ != nullptr) ::munmap(data_, size_);
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
