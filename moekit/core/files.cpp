#include "moekit/core/files.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>

#include "moekit/core/error.h"

namespace moekit {
namespace fs = std::filesystem;
namespace {

/// What ends so is in the making or being removed, and no one's once its process is gone.
constexpr const char* kTemporary = ".tmp";

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

const char* kind_of(mode_t mode) {
  if (S_ISDIR(mode)) return "a folder";
  if (S_ISCHR(mode) || S_ISBLK(mode)) return "a device";
  if (S_ISFIFO(mode)) return "a pipe";
  if (S_ISSOCK(mode)) return "a socket";
  if (S_ISLNK(mode)) return "a link";
  return "a file";
}

/// The file that a path means once its links are followed. @throws IoError when that is there and
/// no regular file, or the links end nowhere
fs::path regular_target(const fs::path& path) {
  const auto refuse = [&](const std::string& why) -> void {
    throw IoError(concat("cannot write ", path.string(), ": ", why));
  };
  struct stat link {};
  if (::lstat(path.c_str(), &link) != 0) return path;  // not there, or no way to it: open tells
  struct stat status {};
  if (::stat(path.c_str(), &status) != 0) {
    refuse(errno == ENOENT ? "it is a link that leads nowhere" : reason());
  }
  if (!S_ISREG(status.st_mode)) refuse(concat("it is ", kind_of(status.st_mode)));
  if (!S_ISLNK(link.st_mode)) return path;
  std::error_code error;
  auto target = fs::canonical(path, error);
  if (error) refuse(error.message());
  return target;
}

}  // namespace

std::string read_file(const fs::path& path, std::uint64_t max_bytes, FileKind kind) {
  constexpr std::uint64_t kChunk = 1 << 16;
  // Without O_NONBLOCK, a pipe would be waited for until somebody writes into it.
  const int wait = kind == FileKind::kRegular ? O_NONBLOCK : 0;
  const Descriptor fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC | wait));
  struct stat status {};
  if (fd.get() < 0 || ::fstat(fd.get(), &status) != 0) {
    throw IoError(concat("cannot open ", path.string(), ": ", reason()));
  }
  if (S_ISDIR(status.st_mode)) {
    throw IoError(concat("cannot read ", path.string(), ": it is a folder"));
  }
  if (kind == FileKind::kRegular && !S_ISREG(status.st_mode)) {
    throw IoError(concat("cannot read ", path.string(), ": it is ", kind_of(status.st_mode)));
  }
  // A pipe or a device announces nothing: it is read until it ends or becomes too long.
  const auto announced = S_ISREG(status.st_mode) ? static_cast<std::uint64_t>(status.st_size) : 0;
  MOEKIT_CHECK_FORMAT(announced <= max_bytes, path.string(), ": ", announced, " bytes, at most ",
                      max_bytes, " are accepted");
  std::string bytes;
  std::uint64_t end = 0;
  for (;;) {
    if (bytes.size() == end) bytes.resize(end == 0 ? announced + 1 : end + std::max(end, kChunk));
    const ssize_t got = ::read(fd.get(), bytes.data() + end, bytes.size() - end);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) throw IoError(concat("cannot read ", path.string(), ": ", reason()));
    if (got == 0) break;
    end += static_cast<std::uint64_t>(got);
    MOEKIT_CHECK_FORMAT(end <= max_bytes, path.string(), ": more than the ", max_bytes,
                        " bytes that are accepted");
  }
  bytes.resize(end);
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
      target_(regular_target(path_)),
      temporary_(target_.string() + kTemporary),
      // A link there would lead the bytes elsewhere, and opening a pipe would wait for a reader.
      fd_(::open(temporary_.c_str(),
                 O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK, 0644)) {
  struct stat status {};
  if (fd_ < 0) throw IoError(concat("cannot create ", temporary_.string(), ": ", reason()));
  if (::fstat(fd_, &status) == 0 && S_ISREG(status.st_mode)) return;
  ::close(fd_);
  throw IoError(concat("cannot create ", temporary_.string(), ": ", kind_of(status.st_mode),
                       " is in its place"));
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
  constexpr std::size_t kGather = 1
                                  << 20;  // a write each would cost a file of 10^6 tensors seconds
  if (fd_ < 0) throw IoError(concat("cannot write ", path_.string(), ": it is closed"));
  if (gathered_.size() + bytes.size() > kGather) flush();
  if (bytes.size() > kGather) {
    write_through(bytes);
  } else {
    gathered_ += bytes;
  }
}

void AtomicFile::flush() {
  write_through(gathered_);
  gathered_.clear();
}

void AtomicFile::write_through(std::string_view bytes) {
  while (!bytes.empty()) {
    const ssize_t written = ::write(fd_, bytes.data(), bytes.size());
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) fail("write " + temporary_.string());
    bytes.remove_prefix(static_cast<std::size_t>(written));
  }
}

void AtomicFile::commit() {
  if (fd_ < 0) throw IoError(concat("cannot write ", path_.string(), ": it is closed"));
  flush();
  while (::fsync(fd_) != 0) {
    if (errno != EINTR) fail("sync " + temporary_.string());
  }
  if (::rename(temporary_.c_str(), target_.c_str()) != 0) {
    fail(concat("rename ", temporary_.string(), " to ", target_.string()));
  }
  ::close(fd_);
  fd_ = -1;
  sync_folder(target_.parent_path());
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

void remove_folder(const fs::path& folder) {
  const fs::path doomed = folder.string() + kTemporary;
  std::error_code error;
  fs::remove_all(doomed, error);
  if (::rename(folder.c_str(), doomed.c_str()) != 0) {
    throw IoError(concat("cannot remove ", folder.string(), ": ", reason()));
  }
  fs::remove_all(doomed, error);
}

namespace {

/// Gives each of two folders the other's name, in one step. @return whether the file system can.
bool exchange(const fs::path& a, const fs::path& b) {
  return ::renameat2(AT_FDCWD, a.c_str(), AT_FDCWD, b.c_str(), RENAME_EXCHANGE) == 0;
}

}  // namespace

FolderTransaction::FolderTransaction(fs::path target)
    : target_(std::move(target)), temporary_(target_.string() + kTemporary) {
  struct stat status {};
  if (::lstat(target_.c_str(), &status) == 0 && !S_ISDIR(status.st_mode)) {
    throw IoError(
        concat("cannot write folder ", target_.string(), ": it is ", kind_of(status.st_mode)));
  }
  std::error_code error;
  fs::remove_all(temporary_, error);
  if (error) {
    throw IoError(concat("cannot remove ", temporary_.string(), ": ", error.message()));
  }
  create_folders(temporary_);
}

FolderTransaction::~FolderTransaction() {
  if (committed_) return;
  std::error_code ignored;
  fs::remove_all(temporary_, ignored);
}

void FolderTransaction::commit() {
  const fs::path old = target_.string() + ".old" + kTemporary;
  std::error_code error;
  bool done = true;
  if (!fs::exists(target_, error)) {
    done = ::rename(temporary_.c_str(), target_.c_str()) == 0;
  } else if (exchange(temporary_, target_)) {
    fs::remove_all(temporary_, error);  // the old folder, by now
  } else {
    fs::remove_all(old, error);
    done = ::rename(target_.c_str(), old.c_str()) == 0 &&
           ::rename(temporary_.c_str(), target_.c_str()) == 0;
    if (done) fs::remove_all(old, error);
  }
  if (!done) {
    throw IoError(
        concat("cannot move ", temporary_.string(), " to ", target_.string(), ": ", reason()));
  }
  committed_ = true;
  sync_folder(target_.parent_path());
}

namespace {

/// @return false with errno set where something has the new name; file systems that cannot rename
/// so are asked before
bool rename_to_new(const fs::path& from, const fs::path& to) {
  if (::renameat2(AT_FDCWD, from.c_str(), AT_FDCWD, to.c_str(), RENAME_NOREPLACE) == 0) return true;
  if (errno != EINVAL && errno != ENOSYS) return false;
  struct stat status {};
  if (::lstat(to.c_str(), &status) == 0) {
    errno = EEXIST;
    return false;
  }
  return ::rename(from.c_str(), to.c_str()) == 0;
}

/// "runs/a" for "runs/a/".
fs::path without_slash(const fs::path& path) {
  return path.has_filename() ? path : path.parent_path();
}

}  // namespace

std::string NewFolder::why_not(const fs::path& given) {
  const fs::path target = without_slash(given);
  struct stat status {};
  if (::lstat(target.c_str(), &status) == 0) return "something of that name is there already";
  std::error_code error;
  fs::path parent = fs::absolute(target, error).lexically_normal().parent_path();
  while (!fs::exists(parent, error) && parent.has_relative_path()) parent = parent.parent_path();
  if (!fs::is_directory(parent, error)) return concat(parent.string(), " is no folder");
  if (::access(parent.c_str(), W_OK | X_OK) != 0) {
    return concat(parent.string(), " cannot be written to: ", reason());
  }
  return {};
}

NewFolder::NewFolder(const fs::path& target) : target_(without_slash(target)) {
  const std::string fault = why_not(target_);
  if (!fault.empty()) throw IoError(concat("cannot make ", target_.string(), ": ", fault));
  const fs::path parent = fs::absolute(target_).lexically_normal().parent_path();
  create_folders(parent);
  for (int tries = 0; tries < 100 && temporary_.empty(); ++tries) {
    std::string own = concat(target_.string(), ".", ::getpid(), "-", tries, kTemporary);
    if (::mkdir(own.c_str(), 0777) == 0) {
      temporary_ = own;
    } else if (errno != EEXIST) {
      throw IoError(concat("cannot create folder ", own, ": ", reason()));
    }
  }
  if (temporary_.empty()) throw IoError(concat("cannot create a folder beside ", target_.string()));
}

NewFolder::~NewFolder() {
  if (committed_) return;
  std::error_code ignored;
  fs::remove_all(temporary_, ignored);
}

void NewFolder::commit() {
  if (!rename_to_new(temporary_, target_)) {
    throw IoError(concat("cannot make ", target_.string(), ": ", reason()));
  }
  committed_ = true;
  sync_folder(fs::absolute(target_).lexically_normal().parent_path());
}

}  // namespace moekit
