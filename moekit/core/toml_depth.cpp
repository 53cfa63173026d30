#include "moekit/core/toml_depth.h"

#include <algorithm>
#include <vector>

#include "moekit/core/error.h"

namespace moekit {
namespace {

/// @return the place after the string that begins at `at`
std::size_t skip_string(std::string_view text, std::size_t at) {
  const char quote = text[at];
  const std::string fence(3, quote);
  const bool multi_line = text.substr(at, 3) == fence;
  for (at += multi_line ? 3 : 1; at < text.size(); ++at) {
    if (quote == '"' && text[at] == '\\') {
      ++at;
    } else if (multi_line ? text.substr(at, 3) == fence : text[at] == quote || text[at] == '\n') {
      at += multi_line ? 3 : 1;
      // Up to two quotes may stand before the three that end the string.
      while (multi_line && at < text.size() && text[at] == quote) ++at;
      return at;
    }
  }
  return text.size();
}

}  // namespace

void check_toml_depth(std::string_view text, const std::string& name) {
  std::vector<std::size_t> open;  // of each bracket the depth in front of it
  std::size_t depth = 0;          // brackets, and the dots since the last comma or line
  for (std::size_t at = 0; at < text.size();) {
    const char c = text[at];
    if (c == '"' || c == '\'') {
      at = skip_string(text, at);
      continue;
    }
    if (c == '#') {
      at = std::min(text.find('\n', at), text.size());
      continue;
    }
    if (c == '.') ++depth;
    if (c == '[' || c == '{') open.push_back(depth++);
    if ((c == ']' || c == '}') && !open.empty()) {
      depth = open.back();
      open.pop_back();
    }
    if (c == ',' || c == '\n') depth = open.empty() ? 0 : open.back() + 1;
    MOEKIT_CHECK(depth <= kMaxTomlDepth, name, ":",
                 1 + std::count(text.begin(), text.begin() + static_cast<std::ptrdiff_t>(at), '\n'),
                 ": nested deeper than ", kMaxTomlDepth);
    ++at;
  }
}

}  // namespace moekit
