#include "moekit/core/cache_folder.h"

#include <cstdlib>

namespace moekit {
namespace fs = std::filesystem;
namespace {

/// A variable that holds an absolute path.
std::optional<fs::path> path_variable(const char* name) {
  const char* value = std::getenv(name);
  if (value == nullptr || !fs::path(value).is_absolute()) return std::nullopt;
  return value;
}

}  // namespace

std::optional<fs::path> find_cache_folder() {
  if (const auto cache = path_variable("XDG_CACHE_HOME")) return *cache / "moekit";
  if (const auto home = path_variable("HOME")) return *home / ".cache" / "moekit";
  return std::nullopt;
}

}  // namespace moekit
