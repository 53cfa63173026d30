#pragma once

#include "moekit/text/model.h"

namespace moekit::text {

struct BpeOptions {
  Json vocab;
  Json merges;
  Json unk_token;
  bool fuse_unk = false;
  bool byte_fallback = false;
  bool ignore_merges = false;
  Json dropout;
  Json continuing_subword_prefix;
  Json end_of_word_suffix;

  template <typename Field>
  void visit(Field&& field) {
    field("vocab", vocab, "ids by token");
    field("merges", merges, "pairs, the first ones before the others: \"a b\" or [\"a\", \"b\"]");
    field("unk_token", unk_token, "stands for characters without token, or null");
    field("fuse_unk", fuse_unk, "neighbouring ones are one");
    field("byte_fallback", byte_fallback, "characters without token are \"<0x..>\", if there");
    field("ignore_merges", ignore_merges, "a word that is a token is that token");
    field("dropout", dropout, "must be null: encoding does not draw");
    field("continuing_subword_prefix", continuing_subword_prefix, "must be null or empty");
    field("end_of_word_suffix", end_of_word_suffix, "must be null or empty");
  }
};

/// Byte-pair encoding: of the pairs of neighbours, the one learned first is merged, of equal ones
/// the leftmost, until none is left. A word of n symbols takes O(n log n) steps.
///
/// Bytes are symbols themselves where the pre-tokenizer is byte-level, in place of the characters
/// that spell them in the file. What has no token and no `unk_token` is refused, where Hugging
/// Face's implementation leaves it out.
/// Source: Sennrich, Haddow, Birch 2016, Neural Machine Translation of Rare Words with Subword
/// Units, arXiv:1508.07909, section 3.2; the details as in Hugging Face's tokenizers 0.23.
std::unique_ptr<Model> make_bpe(const BpeOptions& options, const ModelSite& site);

}  // namespace moekit::text
