#pragma once

#include "moekit/text/decoder.h"

namespace moekit::text {

/// All tokens as one, for decoders behind it.
std::unique_ptr<Decoder> make_fuse(const NoOptions& options, const DecoderSite& site);

}  // namespace moekit::text
