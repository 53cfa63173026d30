#pragma once

#include <filesystem>

#include "moekit/models/decoder.h"
#include "moekit/tasks/language/config.h"
#include "moekit/tasks/language/text_data.h"

namespace moekit::language {

/// How many of the trained model's choices the checkpoints that `train.keep_every` kept already
/// made, on the judged texts: for each mixture "layer", "random" (what random choices share) and
/// "points" of "step" and "value", see metrics::router_saturation().
/// @return an array; empty where fewer than two checkpoints are there
/// @throws IoError, FormatError for damaged checkpoints
Json saturation_over_time(const std::filesystem::path& run, models::DecoderImpl& model,
                          const TextData& data, const Config& config);

}  // namespace moekit::language
