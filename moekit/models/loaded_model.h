#pragma once

#include <filesystem>
#include <string>

#include "moekit/models/transformer.h"
#include "moekit/text/tokenizer.h"

namespace moekit::models {

/// Whether the folder holds a published model, by the model_type of its config.json.
bool is_published_model(const std::filesystem::path& folder);

/// A published model with its weights, in float32 but for feed-forward networks that are packed:
/// those take the memory of their format, one expert at a time as it is read.
/// @param format  of kernels/ffn/weight_format.h, or empty: float32
/// @throws FormatError, IoError; ArgumentError for one that is not run, or weights that do not fit
///         the memory that is free
Transformer load_published(const std::filesystem::path& folder, const std::string& format = "");

/// The folder's tokenizer.json, or GPT-2's files. @throws also FormatError for one that has more
/// tokens than the vocabulary; published vocabularies are often larger, to be even.
text::Tokenizer load_tokenizer(const std::filesystem::path& folder,
                               const published::Architecture& architecture);

}  // namespace moekit::models
