#pragma once

#include <filesystem>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "moekit/data/datasets.h"

/// Where data sets in files lie.
namespace moekit::data {

/// The data folders in the order they are searched: `flag` when not empty, the environment
/// variable MOEKIT_DATA, the user's cache ($XDG_CACHE_HOME/moekit or ~/.cache/moekit), then
/// Debian's /usr/share/datasets. In each, the data set's own folder and the folder itself.
std::vector<std::filesystem::path> search_folders(const std::string& flag);

/// The user's cache, where `moekit data fetch` puts files.
std::filesystem::path cache_folder();

/// The first folder that holds the data set, or nothing; of one made of others, that of its first
/// part; nothing for a generated one.
std::optional<std::filesystem::path> find_dataset(const DatasetRow& row, const std::string& flag);

/// Those of `names` that a folder holds, as they are or packed (.gz, .xz), in order.
std::vector<std::filesystem::path> find_files(const std::filesystem::path& folder,
                                              const std::vector<std::string>& names);
bool has_files(const std::filesystem::path& folder, const std::vector<std::string>& names);
/// The file or a packed form of it. @throws IoError naming it and the folder.
std::filesystem::path need_file(const std::filesystem::path& folder, const std::string& name);

}  // namespace moekit::data
