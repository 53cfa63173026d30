#pragma once

#include "moekit/models/decoder.h"
#include "moekit/report/routed_text.h"
#include "moekit/tasks/language/config.h"
#include "moekit/tasks/language/text_data.h"

namespace moekit::language {

/// Where a decoder's mixtures send the tokens of some judged windows: the first window of each
/// domain as a text to read, and out of `windows` of each a card for every expert.
/// @return nothing in it for a model without mixtures
report::RoutedTexts route_texts(models::DecoderImpl& model, const TextData& data,
                                const Config& config, int64_t windows);

}  // namespace moekit::language
