#pragma once

#include <cstdint>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <vector>

namespace moekit {

/// Key order is kept, so that a resolved configuration reads like the recipe it came from.
using Json = nlohmann::ordered_json;

/// Objects and arrays in one another: what we write is a tenth as deep, and whoever walks a value
/// may recurse.
inline constexpr std::size_t kMaxJsonDepth = 64;
inline constexpr std::uint64_t kMaxJsonBytes = std::uint64_t{1} << 28;

/// Reads a value, in time linear in the text's length. All JSON of files comes in through here, or
/// through `JsonText` where a value would be too large.
/// @param origin  stands before messages: the file, or file and line
/// @throws FormatError for text that is no JSON in UTF-8, is nested deeper than `kMaxJsonDepth` or
///         has a key twice in one object.
Json parse_json(std::string_view text, const std::string& origin);

/// A file that holds one value. @throws IoError; FormatError also above `max_bytes`.
Json read_json(const std::filesystem::path& path, std::uint64_t max_bytes = kMaxJsonBytes);

/// A file that holds a value on every line (.jsonl). @throws as `read_json`, naming the line.
std::vector<Json> read_json_lines(const std::filesystem::path& path,
                                  std::uint64_t max_bytes = kMaxJsonBytes);

/// JSON text of what we print or write; bytes of a path that are not UTF-8 are replaced, where
/// `Json::dump` would throw.
std::string dump_text(const Json& json, int indent = -1);

/// Writes atomically, as `write_file_atomic`, with a final line break. @throws IoError
void write_json(const std::filesystem::path& path, const Json& json);

bool is_utf8(std::string_view text);

/// Text in quotes on one line, as JSON writes it; bytes that are not UTF-8 are replaced. For
/// messages.
std::string in_quotes(std::string_view text);

}  // namespace moekit
