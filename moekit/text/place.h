#pragma once

#include <ostream>
#include <string>
#include <string_view>

#include "moekit/core/error.h"
#include "moekit/core/json.h"

namespace moekit::text {

/// Where a part of a document stands: the file, and its key in it, "normalizer.normalizers[1]". For
/// messages.
struct Place {
  std::string file;
  std::string path;

  Place key(std::string_view name) const {
    return {file, path.empty() ? std::string(name) : concat(path, ".", name)};
  }
  Place item(std::size_t i) const { return {file, concat(path, "[", i, "]")}; }
};

inline std::ostream& operator<<(std::ostream& out, const Place& place) {
  out << place.file;
  if (!place.path.empty()) out << ": " << place.path;
  return out;
}

/// A value as text of a message, cut where it is long.
std::string in_short(const Json& value);

/// "FILE: KEY must be WANTED; got VALUE". @throws FormatError
[[noreturn]] void refuse(const Place& place, std::string_view wanted, const Json& got);

}  // namespace moekit::text
