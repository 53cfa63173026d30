#pragma once

#include "moekit/text/pre_tokenizer.h"

namespace moekit::text {

struct PreTokenizerSequenceOptions {
  Json pretokenizers;

  template <typename Field>
  void visit(Field&& field) {
    field("pretokenizers", pretokenizers, "each divides the pieces of the one before it");
  }
};

/// @throws FormatError where bytes are not the last: what follows would divide their alphabet.
std::unique_ptr<PreTokenizer> make_pre_tokenizer_sequence(
    const PreTokenizerSequenceOptions& options, const PreTokenizerSite& site);

}  // namespace moekit::text
