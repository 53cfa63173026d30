#pragma once

#include "moekit/text/decoder.h"

namespace moekit::text {

/// Neighbouring tokens "<0x..>" as the characters that their bytes are; where they are no UTF-8,
/// each is U+FFFD.
std::unique_ptr<Decoder> make_byte_fallback(const NoOptions& options, const DecoderSite& site);

}  // namespace moekit::text
