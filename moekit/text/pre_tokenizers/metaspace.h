#pragma once

#include "moekit/text/metaspace.h"
#include "moekit/text/pre_tokenizer.h"

namespace moekit::text {

/// Spaces become a visible character, which begins each piece.
/// Source: Kudo, Richardson 2018, SentencePiece, arXiv:1808.06226, section 3.2, "lossless
/// tokenization".
std::unique_ptr<PreTokenizer> make_metaspace(const MetaspaceOptions& options,
                                             const PreTokenizerSite& site);

}  // namespace moekit::text
