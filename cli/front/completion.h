#pragma once

#include <string>
#include <utility>
#include <vector>

#include "cli/front/command_line.h"

namespace moekit::cli {

/// What the completion scripts call: `moekit __complete WORD... CURRENT`. No command, so that help
/// and manual do not show it.
inline constexpr const char* kCompleteWord = "__complete";

/// What may stand where the cursor is.
struct Candidates {
  std::string kind = "words";  ///< words, files, folders, or recipes: TOML files
  std::vector<std::pair<std::string, std::string>> words = {};  ///< with what each is, or nothing
};

/// @param words  those behind the program's name up to the cursor; the last is unfinished
Candidates complete(const CommandLine& line, std::vector<std::string> words);

/// The kind on a line, then a line a word: word, tabulator, what it is.
void print_candidates(const Candidates& candidates);

/// What a shell has to source. @param shell  bash or zsh
std::string completion_script(const std::string& shell);

/// Names of an app's commands, and of its long flags without dashes.
std::vector<std::string> command_names(const CLI::App& app);
std::vector<std::string> flag_names(const CLI::App& app);

/// Whether a value belongs to an option; to a mere switch none does.
bool takes_value(const CLI::Option& option);

}  // namespace moekit::cli
