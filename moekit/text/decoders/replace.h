#pragma once

#include "moekit/text/decoder.h"
#include "moekit/text/normalizers/replace.h"

namespace moekit::text {

/// In each token.
std::unique_ptr<Decoder> make_replace_decoder(const ReplaceOptions& options,
                                              const DecoderSite& site);

}  // namespace moekit::text
