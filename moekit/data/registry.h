#pragma once

#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "moekit/core/config.h"
#include "moekit/data/dataset.h"

namespace moekit::data {

/// A file of a data set: what it is called, where it can be had, how it is checked.
struct RemoteFile {
  std::string name;    ///< in the data folder
  std::string url;     ///< empty: has no public home of its own
  std::string sha256;  ///< of the unpacked content, hex; empty where only `archive_sha256` is known
  std::string archive_sha256 = {};  ///< of what `url` gives, where it is an archive
};

/// One row of the table of data sets.
struct DatasetInfo {
  std::string name;
  std::string description;
  std::vector<std::string> folders;  ///< names of its folder below a data folder
  std::vector<RemoteFile> files;
  /// Reads it from a folder that holds its files, or throws.
  Dataset (*load)(const DatasetInfo& info, const std::filesystem::path& folder) = nullptr;
  /// Whether the folder holds what `load` needs.
  bool (*present)(const std::filesystem::path& folder) = nullptr;
  /// Where it is made of other data sets: their names, and how.
  std::vector<std::string> parts = {};
  Dataset (*join)(const std::vector<Dataset>& parts) = nullptr;
  /// Where it is generated: from the options of a recipe's `data.options` and a seed.
  Dataset (*generate)(const ConfigTree& options, uint64_t seed) = nullptr;
  /// Those options: key, default, meaning.
  std::vector<ConfigKey> (*options)() = nullptr;
};

const std::vector<DatasetInfo>& known_datasets();

/// @throws ArgumentError listing the known names.
const DatasetInfo& dataset_info(const std::string& name);

/// The data folders in the order they are searched: `flag` when not empty, the environment
/// variable MOEKIT_DATA, the user's cache ($XDG_CACHE_HOME/moekit or ~/.cache/moekit), then
/// Debian's /usr/share/datasets. In each, the data set's own folder and the folder itself.
std::vector<std::filesystem::path> search_folders(const std::string& flag);

/// The user's cache, where `moekit data fetch` puts files.
std::filesystem::path cache_folder();

/// The first folder that holds the data set, or nothing; of a joined one, that of its first part.
std::optional<std::filesystem::path> find_dataset(const DatasetInfo& info, const std::string& flag);

/// Finds and reads, or generates, a data set.
/// @param options, seed  for generated ones
/// @throws ArgumentError for an unknown name, or options the data set does not take; IoError
///         listing the folders that were searched.
Dataset load_dataset(const std::string& name, const std::string& data_flag = {},
                     const ConfigTree& options = {}, uint64_t seed = 1);

}  // namespace moekit::data
