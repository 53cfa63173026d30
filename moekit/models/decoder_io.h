#pragma once

#include <filesystem>

#include "moekit/models/decoder.h"
#include "moekit/nn/upcycle.h"

namespace moekit::models {

/// The decoder in a folder with config.json, model.safetensors and manifest.json, in evaluation
/// mode. @throws IoError, FormatError
Decoder load_decoder(const std::filesystem::path& folder);

/// Makes `model` compute what `dense` does, as far as its routers allow: blocks with a mixture get
/// the dense network's feed-forward layer by nn::upcycle(), everything else is copied.
/// @throws ArgumentError naming the key of the model, or the block, that does not fit. Nothing is
///         changed then.
void upcycle_decoder(DecoderImpl& model, DecoderImpl& dense, const nn::UpcycleOptions& options,
                     const at::Generator& generator);

/// Makes a model with adapters of the dense one: everything but the adapters is copied, and learns
/// no more. @throws ArgumentError naming the key that does not fit. Nothing is changed then.
void adapt_decoder(DecoderImpl& model, DecoderImpl& dense);

}  // namespace moekit::models
