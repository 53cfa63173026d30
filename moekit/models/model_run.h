#pragma once

#include <filesystem>
#include <functional>
#include <string>
#include <string_view>

#include "moekit/core/json.h"
#include "moekit/text/generation.h"

namespace moekit::models {

/// Goes on with a text by a published model: a folder with config.json, safetensors and
/// tokenizer.json. The prompt is taken as it is; of what belongs around a text the tokenizer adds
/// its own (a beginning, most often), no chat template.
/// @param weights  format of kernels/ffn/weight_format.h that feed-forward networks are packed in,
///                 or empty: float32
/// @param sink     takes pieces of the text as they come
/// @return as generate_text()
/// @throws FormatError, IoError, ArgumentError
Json run_model(const std::filesystem::path& folder, const text::GenerationOptions& options,
               const std::string& weights, const std::function<void(std::string_view)>& sink);

}  // namespace moekit::models
