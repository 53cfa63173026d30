#pragma once

#include <filesystem>
#include <functional>
#include <string_view>

#include "moekit/core/json.h"
#include "moekit/text/generation.h"

namespace moekit::language {

/// Goes on with a prompt by the model of a finished run, token by token with a cache of keys and
/// values.
/// @param weights  format that feed-forward networks are packed in first; empty: as they are
/// @param sink  gets the text as it comes, without the prompt
/// @return "text", "prompt_tokens", "tokens", "ended_by" ("tokens", "end of text" or "stop"),
/// "tokens_per_second"
/// @throws ArgumentError naming the flag; IoError, FormatError of the run's files
Json generate(const std::filesystem::path& run, const text::GenerationOptions& options,
              const std::string& weights, const std::function<void(std::string_view)>& sink);

}  // namespace moekit::language
