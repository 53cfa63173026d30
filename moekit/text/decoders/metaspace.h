#pragma once

#include "moekit/text/decoder.h"
#include "moekit/text/metaspace.h"

namespace moekit::text {

/// Spaces for their replacement, which the first token loses unless none is set before texts.
std::unique_ptr<Decoder> make_metaspace_decoder(const MetaspaceOptions& options,
                                                const DecoderSite& site);

}  // namespace moekit::text
