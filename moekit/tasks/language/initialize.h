#pragma once

#include "moekit/models/decoder.h"
#include "moekit/tasks/language/config.h"
#include "moekit/text/tokenizer.h"

namespace moekit::language {

/// Draws a decoder's first weights, or makes it of a dense run's model as `init` says.
/// @throws ArgumentError, IoError, FormatError naming the key
void initialize(models::DecoderImpl& model, const Config& config, const text::Tokenizer& tokenizer);

}  // namespace moekit::language
