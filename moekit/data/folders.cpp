#include "moekit/data/folders.h"

#include <cstdlib>

namespace moekit::data {
namespace fs = std::filesystem;
namespace {

/// The file itself or a packed form of it.
std::optional<fs::path> find_file(const fs::path& folder, const std::string& name) {
  for (const char* suffix : {"", ".gz", ".xz"}) {
    const fs::path path = folder / (name + suffix);
    std::error_code error;
    if (fs::is_regular_file(path, error)) return path;
  }
  return std::nullopt;
}

}  // namespace

std::vector<fs::path> find_files(const fs::path& folder, const std::vector<std::string>& names) {
  std::vector<fs::path> found;
  for (const auto& name : names) {
    if (auto path = find_file(folder, name)) found.push_back(*path);
  }
  return found;
}

bool has_files(const fs::path& folder, const std::vector<std::string>& names) {
  return find_files(folder, names).size() == names.size();
}

fs::path need_file(const fs::path& folder, const std::string& name) {
  if (auto path = find_file(folder, name)) return *path;
  throw IoError(concat(folder.string(), " holds no ", name, "[.gz|.xz]"));
}

fs::path cache_folder() {
  if (const char* cache = std::getenv("XDG_CACHE_HOME"); cache != nullptr && *cache != '\0') {
    return fs::path(cache) / "moekit";
  }
  const char* home = std::getenv("HOME");
  return fs::path(home != nullptr ? home : ".") / ".cache" / "moekit";
}

std::vector<fs::path> search_folders(const std::string& flag) {
  std::vector<fs::path> folders;
  if (!flag.empty()) folders.emplace_back(flag);
  if (const char* variable = std::getenv("MOEKIT_DATA"); variable != nullptr && *variable != '\0') {
    folders.emplace_back(variable);
  }
  folders.push_back(cache_folder());
  folders.emplace_back("/usr/share/datasets");
  return folders;
}

std::optional<fs::path> find_dataset(const DatasetRow& row, const std::string& flag) {
  std::optional<fs::path> first_part;
  for (const auto& name : row.parts) {
    const auto found = find_dataset(dataset_row(name), flag);
    if (!found) return std::nullopt;
    if (!first_part) first_part = found;
  }
  if (row.present == nullptr) return first_part;
  const auto folders = search_folders(flag);
  for (size_t i = 0; i < folders.size(); ++i) {
    for (const auto& name : row.folders) {
      if (row.present(folders[i] / name)) return folders[i] / name;
    }
    // Files without a folder of their own could be any data set's: taken only when told so.
    if (i == 0 && !flag.empty() && row.present(folders[i])) return folders[i];
  }
  return std::nullopt;
}

fs::path dataset_folder(std::string_view name, const std::string& flag) {
  const DatasetRow& row = dataset_row(name);
  if (!flag.empty() && !fs::is_directory(flag)) {
    throw IoError(concat("--data ", flag, ": no such folder"));
  }
  if (auto folder = find_dataset(row, flag)) return *folder;
  std::string searched;
  for (const auto& folder : search_folders(flag)) searched += " " + folder.string();
  throw IoError(concat("data set ", name, " was not found; searched:", searched,
                       row.files.empty() ? "" : concat("; try: moekit data fetch ", name)));
}

}  // namespace moekit::data
