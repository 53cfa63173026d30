#pragma once

#include <simdjson.h>

#include <string>
#include <string_view>

#include "moekit/core/json.h"

namespace moekit {

/// JSON text as simdjson's document, for files too large to become a `Json`. Usage:
/// `JsonText text; const auto root = text.parse(bytes, path); for (auto [key, value] : ...)`.
/// Elements and their strings live as long as the object, and until the next parse().
class JsonText {
 public:
  /// @throws FormatError with `origin` in front for text that is no JSON in UTF-8, is nested
  ///         deeper than `max_depth` or has a key twice in one object.
  simdjson::dom::element parse(std::string_view text, const std::string& origin,
                               std::size_t max_depth = kMaxJsonDepth);

 private:
  simdjson::dom::parser parser_;
};

/// What an element holds, which is known to be a T; by value, where simdjson's results hand out
/// references into themselves.
template <typename T>
T value_of(simdjson::dom::element element) {
  T value{};
  return element.get(value) == simdjson::SUCCESS ? value : T{};
}

}  // namespace moekit
