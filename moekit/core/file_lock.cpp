#include "moekit/core/file_lock.h"

#include <fcntl.h>
#include <fmt/chrono.h>
#include <fmt/format.h>
#include <sys/file.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <ctime>
#include <utility>

#include "moekit/core/error.h"

namespace moekit {
namespace {

std::string holder_text() {
  std::array<char, 256> host{};
  if (::gethostname(host.data(), host.size() - 1) != 0) host = {'?'};
  return fmt::format("process {} on {} since {:%Y-%m-%d %H:%M:%S} UTC\n", ::getpid(), host.data(),
                     fmt::gmtime(std::time(nullptr)));
}

/// What the holder wrote, in one line; the file is another's and may hold anything.
std::string read_holder(int fd) {
  std::array<char, 400> buffer{};
  const ssize_t count = ::pread(fd, buffer.data(), buffer.size(), 0);
  std::string text(buffer.data(), static_cast<std::size_t>(std::max<ssize_t>(count, 0)));
  text = text.substr(0, text.find('\n'));
  for (char& c : text) {
    if (static_cast<unsigned char>(c) < ' ') c = '?';
  }
  return text.empty() ? "another process" : text;
}

}  // namespace

FileLock::FileLock(const std::filesystem::path& file, const std::string& what)
    : fd_(::open(file.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0644)) {
  if (fd_ < 0) throw IoError(concat("cannot open ", file.string(), ": ", std::strerror(errno)));
  if (::flock(fd_, LOCK_EX | LOCK_NB) == 0) {
    const std::string holder = holder_text();
    // For people to read: where it cannot be written, the lock holds all the same.
    if (::ftruncate(fd_, 0) == 0) {
      [[maybe_unused]] const auto written = ::pwrite(fd_, holder.data(), holder.size(), 0);
    }
    return;
  }
  const int error = errno;
  // Some network file systems have no locks at all: training goes on there, unguarded.
  if (error == ENOLCK || error == ENOSYS || error == EOPNOTSUPP) return;
  const std::string message =
      error == EWOULDBLOCK
          ? concat(what, " is in use by ", read_holder(fd_), "; wait for its end or stop it")
          : concat("cannot lock ", file.string(), ": ", std::strerror(error));
  ::close(std::exchange(fd_, -1));
  throw IoError(message);
}

FileLock::FileLock(FileLock&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}

FileLock::~FileLock() {
  if (fd_ >= 0) ::close(fd_);
}

}  // namespace moekit
