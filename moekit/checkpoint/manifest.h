#pragma once

#include <filesystem>

namespace moekit::checkpoint {

/// Writes manifest.json into a folder: bytes and SHA-256 of every file in it.
///
///     {"files": {"model.safetensors": {"bytes": 1234, "sha256": "ba78..."}}}
void write_manifest(const std::filesystem::path& folder);

/// Compares a folder with its manifest.json. Files that the manifest does not name are left alone.
/// @return false where there is no manifest: written before there were any
/// @throws FormatError naming the first file that is missing or is not what was written, or the
///         manifest; IoError.
bool check_manifest(const std::filesystem::path& folder);

/// As `check_manifest`, for one file of the folder. @return false also where it is not named
bool check_in_manifest(const std::filesystem::path& file);

}  // namespace moekit::checkpoint
