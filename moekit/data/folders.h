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
/// variable MOEKIT_DATA, the user's cache where there is one, then Debian's /usr/share/datasets. In
/// each, the data set's own folder and the folder itself.
std::vector<std::filesystem::path> search_folders(const std::string& flag);

/// @throws IoError when the flag names what is no folder, or none that can be reached
void check_data_flag(const std::string& flag);

/// The user's cache, where `moekit data fetch` puts files: find_cache_folder().
/// @throws IoError where there is none
std::filesystem::path cache_folder();

/// The first folder that holds the data set, or nothing; of one made of others, that of its first
/// part; nothing for a generated one.
/// @throws IoError when the flag's folder has one of the data set's name that cannot be read or
///         holds some of its files only
std::optional<std::filesystem::path> find_dataset(const DatasetRow& row, const std::string& flag);

/// Those of `names` that a folder holds, as they are or packed (.gz, .xz), in order; a link that
/// leads to no file counts as none.
std::vector<std::filesystem::path> find_files(const std::filesystem::path& folder,
                                              const std::vector<std::string>& names);
bool has_files(const std::filesystem::path& folder, const std::vector<std::string>& names);
/// The file or a packed form of it. @throws IoError naming it and the folder, and what is wrong
/// with either (`folder_trouble`).
std::filesystem::path need_file(const std::filesystem::path& folder, const std::string& name);

/// What keeps a folder from being read: ": Permission denied", ": NAME is a link that leads
/// nowhere", ": NAME is no regular file". Empty where nothing does, also where it is not there.
std::string folder_trouble(const std::filesystem::path& folder);

}  // namespace moekit::data
