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
/// Why choose_paths() takes the set it takes for one kind of operands: "avx512: 176 against 89 of
/// avx512-vnni", in 10^9 operations a second, or "avx512-vnni: no other is faster by a quarter".
std::string why_chosen(const std::vector<IsaRates>& rates, double IsaRates::*rate);

/// Does nothing where the file cannot be written: then it is measured again.
void keep_choice(const PathChoice& choice);

}  // namespace moekit::kernels
