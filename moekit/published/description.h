#pragma once

#include <filesystem>
#include <string>

#include "moekit/core/json.h"

namespace moekit::published {

/// What a published model is, out of its headers alone: family, layers, mixtures and their routers,
/// sizes, bytes by part, which formats of its experts fit the memory that is free, and tensors that
/// are missing, unknown or of another shape.
/// @param path  a folder with config.json and, most often, safetensors; or a config.json
/// @throws IoError, FormatError
Json describe_model(const std::filesystem::path& path);

/// The same as lines of text.
std::string description_text(const Json& description);

}  // namespace moekit::published
