#pragma once

#include <filesystem>
#include <functional>
#include <string>

#include "moekit/data/datasets.h"

namespace moekit::data {

/// Told how many of how many bytes of a file are there (total 0: unknown); false stops.
using FetchProgress =
    std::function<bool(const std::string& file, std::int64_t done, std::int64_t total)>;

/// Downloads a data set's files into `folder`. A broken transfer leaves FILE.part, and the next
/// call goes on from there; files that are there with the right checksum are left alone. A file
/// takes its name only after its SHA-256 fits (that of the unpacked content).
/// @param mirror  takes the place of the addresses' part before the last '/', may be empty
/// @throws ArgumentError for a data set without a public address; IoError naming address and
///         reason when a transfer fails or a file cannot be written; FormatError when a checksum
///         differs (the part is removed), and of an archive with a member that is a link or device,
///         there twice, or leaves the archive's folder.
void fetch_dataset(const DatasetRow& row, const std::filesystem::path& folder,
                   const std::string& mirror = {}, const FetchProgress& progress = {});

/// One transfer into `part`, from where an earlier one stopped.
void download(const std::string& url, const std::filesystem::path& part,
              const FetchProgress& progress = {});

}  // namespace moekit::data
