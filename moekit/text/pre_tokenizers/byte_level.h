#pragma once

#include "moekit/text/pre_tokenizer.h"

namespace moekit::text {

/// The pattern of GPT-2's words: contractions, letters, numbers and other characters, each with a
/// space before it, and white space.
/// Source: Radford et al. 2019, Language Models are Unsupervised Multitask Learners; encoder.py.
inline constexpr const char* kGpt2Pattern =
    R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)";

struct ByteLevelOptions {
  bool add_prefix_space = true;
  bool trim_offsets = true;
  bool use_regex = true;

  template <typename Field>
  void visit(Field&& field) {
    field("add_prefix_space", add_prefix_space, "a space before every piece that has none there");
    field("trim_offsets", trim_offsets, "of places in the text, which are not given here");
    field("use_regex", use_regex, "divides into the words of GPT-2");
  }
};

/// Words are bytes to the model.
std::unique_ptr<PreTokenizer> make_byte_level(const ByteLevelOptions& options,
                                              const PreTokenizerSite& site);

}  // namespace moekit::text
