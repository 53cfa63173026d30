#pragma once

#include <sys/mman.h>
#include <unistd.h>

#include <cstdint>
#include <cstdlib>
#include <filesystem>
#include <string>
#include <string_view>

#include "moekit/core/error.h"

namespace moekit::fuzz {

inline std::string_view as_text(const std::uint8_t* data, std::size_t size) {
  return {reinterpret_cast<const char*>(data), size};
}

/// The input as a file for readers that open a path. It lives in memory and is one file for all
/// executions, written anew for each.
inline std::filesystem::path as_file(const std::uint8_t* data, std::size_t size) {
  static const int fd = ::memfd_create("input", MFD_CLOEXEC);
  if (fd < 0 || ::ftruncate(fd, 0) != 0 ||
      ::pwrite(fd, data, size, 0) != static_cast<ssize_t>(size)) {
    std::abort();
  }
  static const std::filesystem::path path = "/proc/self/fd/" + std::to_string(fd);
  return path;
}

/// A folder of this process.
inline std::filesystem::path make_folder(const char* name) {
  const auto folder =
      std::filesystem::temp_directory_path() / concat("moekit-fuzz-", name, "-", ::getpid());
  std::filesystem::remove_all(folder);
  std::filesystem::create_directories(folder);
  return folder;
}

/// Runs a reader: it may succeed or refuse with an error of ours. Whatever else it throws ends the
/// program and is a finding.
template <typename Read>
int read_untrusted(Read&& read) {
  try {
    read();
  } catch (const Error&) {
  }
  return 0;
}

}  // namespace moekit::fuzz
