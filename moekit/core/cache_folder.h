#pragma once

#include <filesystem>
#include <optional>

namespace moekit {

/// The user's cache: moekit below XDG_CACHE_HOME, else below .cache in HOME; nothing where neither
/// variable holds an absolute path, which alone counts in the XDG base directory specification.
std::optional<std::filesystem::path> find_cache_folder();

}  // namespace moekit
