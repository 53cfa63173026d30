#pragma once

#include "moekit/text/normalizer.h"

namespace moekit::text {

/// Unicode's normal forms.
/// Source: Unicode Standard Annex 15.
std::unique_ptr<Normalizer> make_nfc(const NoOptions& options, const NormalizerSite& site);
std::unique_ptr<Normalizer> make_nfd(const NoOptions& options, const NormalizerSite& site);
std::unique_ptr<Normalizer> make_nfkc(const NoOptions& options, const NormalizerSite& site);
std::unique_ptr<Normalizer> make_nfkd(const NoOptions& options, const NormalizerSite& site);

}  // namespace moekit::text
