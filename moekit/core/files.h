#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>

namespace moekit {

/// What may be read: a regular file, or also a pipe or a device, which a user names on purpose and
/// which gives what comes until it ends.
enum class FileKind { kRegular, kAny };

/// Reads a whole file. @throws IoError naming the path; FormatError above `max_bytes`.
std::string read_file(const std::filesystem::path& path,
                      std::uint64_t max_bytes = std::uint64_t{1} << 34,
                      FileKind kind = FileKind::kRegular);

/// Writes `path` piece by piece, so that a reader sees the old file or the new one and nothing
/// between: the bytes go to `path.tmp`, small pieces gathered, and commit() syncs and renames it.
/// Without commit(), or once a call has failed, the temporary file is removed and the target is as
/// it was. A link to a file is followed: the file is replaced, the link stays. What is no regular
/// file (a folder, device, pipe or socket, a link that leads nowhere) is refused, and so is a
/// temporary file's place that something else has taken. Usage:
/// `AtomicFile file(path); file.append(a); file.append(b); file.commit();` All throw IoError naming
/// the path and the system's reason.
class AtomicFile {
 public:
  explicit AtomicFile(std::filesystem::path path);
  AtomicFile(const AtomicFile&) = delete;
  AtomicFile& operator=(const AtomicFile&) = delete;
  ~AtomicFile();
  const std::filesystem::path& path() const { return path_; }
  void append(std::string_view bytes);
  /// Nothing can be appended afterwards.
  void commit();

 private:
  void discard();
  [[noreturn]] void fail(std::string_view what);
  void write_through(std::string_view bytes);
  void flush();

  std::filesystem::path path_;
  std::filesystem::path target_;  ///< where the links of `path_` end
  std::filesystem::path temporary_;
  std::string gathered_;  ///< appended, not yet written
  int fd_ = -1;           ///< -1: committed or given up
};

/// Writes all `bytes` as one `AtomicFile`.
void write_file_atomic(const std::filesystem::path& path, std::string_view bytes);

/// A file's bytes as memory: nothing is read before it is touched. The mapping is private: writing
/// into it changes the memory, never the file. Its length is that of the file when it was opened;
/// when another process cuts the file shorter afterwards, touching the missing part kills the
/// process (SIGBUS), as with every mapping. A file replaced by renaming does no harm.
class MappedFile {
 public:
  /// @throws IoError naming the path and the system's reason; a folder or a pipe is refused.
  explicit MappedFile(const std::filesystem::path& path);
  MappedFile(const MappedFile&) = delete;
  MappedFile& operator=(const MappedFile&) = delete;
  ~MappedFile();
  char* data() const { return data_; }
  std::uint64_t size() const { return size_; }

 private:
  char* data_ = nullptr;  ///< null for an empty file
  std::uint64_t size_ = 0;
};

/// Syncs a folder's entries to disk, after files in it were created or renamed.
void sync_folder(const std::filesystem::path& folder);

/// Creates a folder and its parents. @throws IoError naming the path.
void create_folders(const std::filesystem::path& folder);

/// Renames a folder to `folder.tmp` and removes that: no one sees a part of it, and what a death on
/// the way leaves is known as a leftover by its name. @throws IoError naming the path
void remove_folder(const std::filesystem::path& folder);

/// `folder.tmp` in, `folder` out: writes a folder under a temporary name and renames it when
/// complete. Usage: `FolderTransaction t(dir); write into t.path(); t.commit();`
/// Without commit() the destructor removes what was written. A target that is there and no folder,
/// or a link, is refused.
class FolderTransaction {
 public:
  explicit FolderTransaction(std::filesystem::path target);
  FolderTransaction(const FolderTransaction&) = delete;
  FolderTransaction& operator=(const FolderTransaction&) = delete;
  ~FolderTransaction();
  const std::filesystem::path& path() const { return temporary_; }
  /// An existing target is replaced, where the file system can in one step; elsewhere it lies in
  /// `folder.old.tmp` for a moment.
  void commit();

 private:
  std::filesystem::path target_;
  std::filesystem::path temporary_;
  bool committed_ = false;
};

/// As FolderTransaction, for a folder that must not be there: the temporary one has a name of its
/// own beside it, so that neither what lies there nor another process is in its way.
class NewFolder {
 public:
  /// Why a folder cannot be made there, as far as can be told now; empty where it can. A slash at
  /// its end does not count. Nothing is made.
  static std::string why_not(const std::filesystem::path& target);
  /// @throws IoError naming the path
  explicit NewFolder(const std::filesystem::path& target);
  NewFolder(const NewFolder&) = delete;
  NewFolder& operator=(const NewFolder&) = delete;
  ~NewFolder();
  const std::filesystem::path& path() const { return temporary_; }
  /// @throws IoError also where something lies there by now; it is not touched
  void commit();

 private:
  std::filesystem::path target_;
  std::filesystem::path temporary_;
  bool committed_ = false;
};

}  // namespace moekit
