#pragma once

#include "moekit/text/post_processor.h"
#include "moekit/text/pre_tokenizers/byte_level.h"

namespace moekit::text {

/// Changes which places of the text a token is said to have, which are not given here: no ids.
std::unique_ptr<PostProcessor> make_byte_offsets(const ByteLevelOptions& options,
                                                 const PostProcessorSite& site);

}  // namespace moekit::text
