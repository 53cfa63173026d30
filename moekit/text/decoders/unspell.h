#pragma once

#include "moekit/text/decoder.h"
#include "moekit/text/pre_tokenizers/byte_level.h"

namespace moekit::text {

/// All tokens as one, of the bytes that they spell (`byte_alphabet.h`); a token with another
/// character stays as it is. The options say nothing of decoding.
std::unique_ptr<Decoder> make_unspell(const ByteLevelOptions& options, const DecoderSite& site);

}  // namespace moekit::text
