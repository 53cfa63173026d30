#pragma once

#include <string>
#include <string_view>

namespace moekit {

/// Tables and arrays in one another, or parts of a key: no recipe has ten.
inline constexpr std::size_t kMaxTomlDepth = 64;

/// Refuses TOML text that is nested deeper than `kMaxTomlDepth`, by brackets or by the dots of a
/// key. toml++ bounds the brackets only, and takes its tables apart by recursion: a key of 100,000
/// parts ends the process. Goes by strings, comments, brackets and dots alone; what else is wrong
/// with the text is the parser's matter. @throws ArgumentError naming `name` and the line.
void check_toml_depth(std::string_view text, const std::string& name);

}  // namespace moekit
