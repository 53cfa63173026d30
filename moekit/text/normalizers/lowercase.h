#pragma once

#include "moekit/text/normalizer.h"

namespace moekit::text {

/// Every character's small form, by itself: a sigma at the end of a word is as any other.
std::unique_ptr<Normalizer> make_lowercase(const NoOptions& options, const NormalizerSite& site);

}  // namespace moekit::text
