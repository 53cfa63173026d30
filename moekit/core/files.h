#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>

namespace moekit {

/// Reads a whole file. @throws IoError naming the path; FormatError above `max_bytes`.
std::string read_file(const std::filesystem::path& path,
                      std::uint64_t max_bytes = std::uint64_t{1} << 34);

/// Writes `bytes` to a temporary name in the same folder, syncs it and renames it over `path`,
/// so that a reader sees the old file or the new one and nothing between.
/// @throws IoError naming the path and the system's reason; the temporary file is removed.
void write_file_atomic(const std::filesystem::path& path, std::string_view bytes);

/// Syncs a folder's entries to disk, after files in it were created or renamed.
void sync_folder(const std::filesystem::path& folder);

/// Creates a folder and its parents. @throws IoError naming the path.
void create_folders(const std::filesystem::path& folder);

/// `folder.tmp` in, `folder` out: writes a folder under a temporary name and renames it when
/// complete. Usage: `FolderTransaction t(dir); write into t.path(); t.commit();`
/// Without commit() the destructor removes what was written.
class FolderTransaction {
 public:
  explicit FolderTransaction(std::filesystem::path target);
  FolderTransaction(const FolderTransaction&) = delete;
  FolderTransaction& operator=(const FolderTransaction&) = delete;
  ~FolderTransaction();
  const std::filesystem::path& path() const { return temporary_; }
  /// An existing target is replaced.
  void commit();

 private:
  std::filesystem::path target_;
  std::filesystem::path temporary_;
  bool committed_ = false;
};

}  // namespace moekit
