#pragma once

#include <filesystem>
#include <functional>

#include "moekit/tasks/language/text_data.h"

/// Texts that were cut into tokens once, for many runs:
///     tokenizer.json   what cut them
///     DOMAIN.tokens    a token file for each domain (text/token_file.h), its documents in the
///     order
///                      a run takes them in
///     tokens.json      of which texts and options, and which domains are done
namespace moekit::language {

/// Called with bytes of text that are done, of how many. @return false to stop
using TokenProgress = std::function<bool(int64_t done, int64_t all)>;

/// Writes such a folder, a domain at a time; goes on where it was stopped.
/// @return "folder", "finished", "domains": a domain's "documents", "tokens", "bytes"
/// @throws ArgumentError for a folder that holds something else, or tokens of other texts or
/// options;
///         IoError, FormatError
Json write_token_folder(const DataConfig& config, const std::filesystem::path& folder,
                        const TokenProgress& progress);

/// Its texts as a run takes them; ids stay in the files.
/// @throws ArgumentError where it was not finished; IoError, FormatError naming the file
TextData read_token_folder(const std::filesystem::path& folder, double validation_share);

}  // namespace moekit::language
