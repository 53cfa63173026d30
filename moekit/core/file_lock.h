#pragma once

#include <filesystem>

namespace moekit {

/// Holds a file for this process alone, as long as it lives; the kernel frees it when the process
/// dies in whatever way. The file says who holds it and stays where it is: removing it would let
/// two processes hold two files of one name.
class FileLock {
 public:
  /// Creates the file where there is none. Does not wait.
  /// @param what  for the message: what the file stands for
  /// @throws IoError when another process holds it, naming that process, its host and since when.
  FileLock(const std::filesystem::path& file, const std::string& what);
  FileLock(const FileLock&) = delete;
  FileLock& operator=(const FileLock&) = delete;
  FileLock(FileLock&& other) noexcept;
  FileLock& operator=(FileLock&&) = delete;
  ~FileLock();

 private:
  int fd_ = -1;
};

}  // namespace moekit
