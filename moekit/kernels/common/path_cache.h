#pragma once

#include <filesystem>
#include <optional>
#include <string>
#include <string_view>

#include "moekit/kernels/common/format_paths.h"

/// A measured choice of instruction sets in a file of the user's cache. One that another machine or
/// another version made is ignored, as is one that cannot be read.
namespace moekit::kernels {

/// Who chose: moekit's version, the processor and its instruction sets, on two lines.
std::string choice_owner();

/// The file's text, and back: nothing where `owner` did not write it, or where it names sets that
/// this machine lacks.
std::string choice_text(const PathChoice& choice, std::string_view owner);
std::optional<PathChoice> parse_choice(std::string_view text, std::string_view owner);

/// "instruction-sets" in find_cache_folder(); nothing where there is no such folder.
std::optional<std::filesystem::path> choice_file();
std::optional<PathChoice> read_choice();
/// Does nothing where the file cannot be written: then it is measured again.
void keep_choice(const PathChoice& choice);

}  // namespace moekit::kernels
