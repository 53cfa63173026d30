#pragma once

#include <filesystem>
#include <functional>
#include <vector>

#include "moekit/core/json.h"

namespace moekit::models {

/// How well a published model foretells texts, each a domain of the file's name: loss in nats a
/// token and its exponential, bits a byte. A text is cut into windows of tokens that know nothing
/// of each other; the first token of a window is not foretold.
/// @param texts   UTF-8 files, at least one
/// @param window  tokens, 2 at least; 0: the model's context, 1,024 at most
/// @param progress  called with windows done and their number
/// @return {"window", "domains": [{"name", "tokens", "bytes", "loss", "perplexity",
///         "bits_per_byte"}], "mean": {...}}; the mean is over domains
/// @throws FormatError, IoError, ArgumentError
Json eval_model(const std::filesystem::path& folder,
                const std::vector<std::filesystem::path>& texts, int64_t window,
                const std::function<void(int64_t done, int64_t total)>& progress);

}  // namespace moekit::models
