#include "moekit/data/folders.h"

#include <cstdlib>

#include "moekit/core/cache_folder.h"

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

std::string folder_trouble(const fs::path& folder) {
  std::error_code error;
  const auto kind = fs::status(folder, error).type();
  if (kind == fs::file_type::not_found) {
    const bool link = fs::is_symlink(fs::symlink_status(folder, error));
    return link ? ": is a link that leads nowhere" : "";
  }
  if (kind == fs::file_type::none) return ": " + error.message();  // a loop of links, no permission
  if (kind != fs::file_type::directory) return ": is no folder";
  fs::directory_iterator entries(folder, error);
  for (; !error && entries != fs::directory_iterator(); entries.increment(error)) {
    const std::string name = entries->path().filename().string();
    std::error_code fault;
    const auto entry = entries->status(fault).type();
    if (entry == fs::file_type::not_found) return ": " + name + " is a link that leads nowhere";
    if (fault) return ": " + name + ": " + fault.message();
    if (entry != fs::file_type::regular && entry != fs::file_type::directory) {
      return ": " + name + " is no regular file";
    }
  }
  return error ? ": " + error.message() : "";
}

fs::path need_file(const fs::path& folder, const std::string& name) {
  if (auto path = find_file(folder, name)) return *path;
  throw IoError(concat(folder.string(), " holds no ", name, "[.gz|.xz]", folder_trouble(folder)));
}

namespace {

/// The folders that were searched, and what is wrong with them or with the data set's own in them.
std::string searched_text(const DatasetRow& row, const std::string& flag) {
  std::string text;
  for (const auto& folder : search_folders(flag)) {
    text += " " + folder.string();
    // Below the folder first: what is wrong there is nearer to what was wanted.
    std::string trouble;
    for (const auto& name : row.folders) {
      if (trouble.empty() && !(trouble = folder_trouble(folder / name)).empty()) {
        trouble = concat(" (", name, trouble, ")");
      }
    }
    if (trouble.empty() && !(trouble = folder_trouble(folder)).empty()) {
      trouble = concat(" (", trouble.substr(2), ")");
    }
    text += trouble;
  }
  return text;
}

/// Refuses a folder of the data set that cannot be read or lacks files: whoever put it there means
/// that one, not the next folder that is searched.
void check_own_folder(const DatasetRow& row, const fs::path& folder) {
  const std::string trouble = folder_trouble(folder);
  if (!trouble.empty()) throw IoError(folder.string() + trouble);
  std::string lacking;
  bool some = false;
  for (const auto& file : row.files) {
    if (has_files(folder, {file.name})) {
      some = true;
    } else {
      lacking += " " + file.name;
    }
  }
  if (some) throw IoError(concat(folder.string(), " is no whole ", row.name, ": lacks", lacking));
}

}  // namespace

fs::path cache_folder() {
  if (const auto cache = find_cache_folder()) return *cache;
  throw IoError(
      "there is no folder for a cache: neither XDG_CACHE_HOME nor HOME holds an absolute "
      "path; name a folder with --data");
}

std::vector<fs::path> search_folders(const std::string& flag) {
  std::vector<fs::path> folders;
  if (!flag.empty()) folders.emplace_back(flag);
  if (const char* variable = std::getenv("MOEKIT_DATA"); variable != nullptr && *variable != '\0') {
    folders.emplace_back(variable);
  }
  if (const auto cache = find_cache_folder()) folders.push_back(*cache);
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
      if (i == 0 && !flag.empty()) check_own_folder(row, folders[i] / name);
    }
    // Files without a folder of their own could be any data set's: taken only when told so.
    if (i == 0 && !flag.empty() && row.present(folders[i])) return folders[i];
  }
  return std::nullopt;
}

void check_data_flag(const std::string& flag) {
  std::error_code error;
  if (flag.empty() || fs::is_directory(flag, error)) return;
  const std::string trouble = folder_trouble(flag);
  throw IoError(concat("--data ", flag, trouble.empty() ? ": no such folder" : trouble));
}

fs::path dataset_folder(std::string_view name, const std::string& flag) {
  const DatasetRow& row = dataset_row(name);
  check_data_flag(flag);
  if (auto folder = find_dataset(row, flag)) return *folder;
  throw IoError(concat("data set ", name, " was not found; searched:", searched_text(row, flag),
                       row.files.empty() ? "" : concat("; try: moekit data fetch ", name)));
}

}  // namespace moekit::data
