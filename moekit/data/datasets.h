#pragma once

#include <algorithm>
#include <filesystem>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "moekit/core/kinds.h"
#include "moekit/data/dataset.h"
#include "moekit/data/image_dataset.h"

/// The table of data sets. A recipe names one by `data.name`; the keys of `data.options` are those
/// of the set it names.
namespace moekit::data {

/// What a data set is made for.
struct DatasetSite {
  std::string data_flag = {};  ///< --data: the folder to look into first, may be empty
  uint64_t seed = 1;           ///< of generated ones
};

/// A file of a data set: what it is called, where it can be had, how it is checked.
struct RemoteFile {
  std::string name;    ///< in the data folder
  std::string url;     ///< empty: has no public home of its own
  std::string sha256;  ///< of the unpacked content, hex; empty where only `archive_sha256` is known
  std::string archive_sha256 = {};  ///< of what `url` gives, where it is an archive
};

/// One row of the table. Read from files, made of other data sets (`parts`), or generated.
struct DatasetRow : Kind<std::shared_ptr<Dataset>, DatasetSite> {
  std::vector<std::string> folders = {};  ///< names of its folder below a data folder
  std::vector<RemoteFile> files = {};
  /// Whether a folder holds what it is read from.
  bool (*present)(const std::filesystem::path& folder) = nullptr;
  std::vector<std::string> parts = {};  ///< the data sets it is made of

  bool generated() const { return present == nullptr && parts.empty(); }
};

struct DatasetKinds {
  using Row = DatasetRow;
  static constexpr const char* kDefault = "fashion-mnist";
  static constexpr const char* kWhat = "data set";
  static constexpr const char* kDoc = "data set; see `moekit data list`";
  static constexpr const char* kOptionsKey = "options";
  static const std::vector<DatasetRow>& rows();
};

/// The row of a name. @throws ArgumentError listing the known names.
const DatasetRow& dataset_row(std::string_view name);

/// The folder of a data set in files. @throws IoError listing the folders that were searched.
std::filesystem::path dataset_folder(std::string_view name, const std::string& data_flag);

/// Finds and reads, or generates, the data set of a name with its default options.
/// @throws ArgumentError for an unknown name; IoError listing the folders that were searched.
std::shared_ptr<Dataset> load_dataset(std::string_view name, const DatasetSite& site = {});

/// The data set as one of images. @throws ArgumentError naming it and what it holds instead.
std::shared_ptr<ImageDataset> as_images(const std::shared_ptr<Dataset>& dataset);

/// A choice of a data set, as a recipe makes it, that must be one of images.
/// @throws as its `make` and `as_images`
std::shared_ptr<ImageDataset> load_images(const Choice<DatasetKinds>& choice,
                                          const DatasetSite& site = {});
/// As above, with default options.
std::shared_ptr<ImageDataset> load_images(std::string_view name, const DatasetSite& site = {});

namespace detail {

template <typename Make>
struct SeededMake;
template <typename P, typename O>
struct SeededMake<P (*)(const O&, uint64_t)> {
  using Product = P;
  using Options = O;
};

template <auto kMake>
std::shared_ptr<Dataset> make_seeded(const typename SeededMake<decltype(kMake)>::Options& options,
                                     const DatasetSite& site) {
  return std::make_shared<typename SeededMake<decltype(kMake)>::Product>(kMake(options, site.seed));
}

/// A name as an argument of a template.
template <size_t N>
struct FixedName {
  char text[N] = {};
  consteval FixedName(const char (&name)[N]) {  // NOLINT(google-explicit-constructor)
    std::copy_n(name, N, text);
  }
};

template <FixedName kName, auto kRead>
std::shared_ptr<Dataset> make_stored(const NoOptions&, const DatasetSite& site) {
  auto set = kRead(dataset_folder(kName.text, site.data_flag));
  return std::make_shared<decltype(set)>(std::move(set));
}

template <typename Options>
void check_options(const Options& options, const DatasetSite&, const std::string& where) {
  options.check(where);
}

}  // namespace detail

/// The row of a generated data set: `kMake` is `SomeDataset make(const Options&, uint64_t seed)`,
/// and `Options` has, beside `visit`, `void check(const std::string& where) const`.
template <auto kMake>
DatasetRow generated(std::string_view name, std::string_view doc) {
  using Options = typename detail::SeededMake<decltype(kMake)>::Options;
  return {kind<&detail::make_seeded<kMake>, &detail::check_options<Options>>(name, doc)};
}

/// The row of a data set in files: `kRead` is `SomeDataset read(const std::filesystem::path&
/// folder)`. What else the row holds is filled in by hand.
template <detail::FixedName kName, auto kRead>
DatasetRow stored(std::string_view doc) {
  return {kind<&detail::make_stored<kName, kRead>>(kName.text, doc)};
}

}  // namespace moekit::data
