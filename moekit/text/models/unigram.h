#pragma once

#include "moekit/text/model.h"

namespace moekit::text {

struct UnigramOptions {
  Json vocab;
  Json unk_id;
  bool byte_fallback = false;

  template <typename Field>
  void visit(Field&& field) {
    field("vocab", vocab, "[token, logarithm of its probability], in the order of ids");
    field("unk_id", unk_id, "of the token that stands for characters without one, or null");
    field("byte_fallback", byte_fallback, "characters without token are \"<0x..>\", if there");
  }
};

/// The sequence of tokens whose logarithms of probability have the largest sum, by dynamic
/// programming in double; of equal ones, whose last token begins first. A character without a token
/// counts as the least probable token with 10 subtracted; neighbouring ones are one.
/// Source: Kudo 2018, Subword Regularization, arXiv:1804.10959, section 3.2; the score of unknown
/// characters and the order of equal ones as in Hugging Face's tokenizers 0.23 (encode_optimized).
std::unique_ptr<Model> make_unigram(const UnigramOptions& options, const ModelSite& site);

}  // namespace moekit::text
