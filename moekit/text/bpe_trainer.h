#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

#include "moekit/core/enum_names.h"
#include "moekit/core/field_rule.h"
#include "moekit/text/normalizer.h"
#include "moekit/text/pre_tokenizer.h"

namespace moekit::text {

/// How texts are divided into words, across which nothing is merged.
enum class WordPattern {
  kGpt2,    ///< `kGpt2Pattern`
  kLlama3,  ///< of Llama 3: up to three digits, line breaks, any one character before letters
  kQwen2,   ///< as Llama 3, with single digits, of the text in NFC
};

}  // namespace moekit::text

namespace moekit {
template <>
struct EnumNames<text::WordPattern> {
  static constexpr std::array<std::pair<text::WordPattern, std::string_view>, 3> kTable{
      {{text::WordPattern::kGpt2, "gpt2"},
       {text::WordPattern::kLlama3, "llama3"},
       {text::WordPattern::kQwen2, "qwen2"}}};
};
}  // namespace moekit

namespace moekit::text {

struct BpeTrainerOptions {
  std::int64_t vocabulary_size = 1024;
  WordPattern words = WordPattern::kGpt2;
  std::vector<std::string> special_tokens = {"<|endoftext|>"};

  template <typename Field>
  void visit(Field&& field) {
    field("vocabulary_size", vocabulary_size, "with the 256 bytes and the special tokens",
          at_least(256, 1 << 22));
    field("words", words, "how texts are divided into words");
    field("special_tokens", special_tokens, "have the highest ids");
  }
};

/// Learns a byte-level BPE: beginning with bytes, the pair of neighbours that is most frequent
/// within words becomes a token, again and again; of equally frequent ones the one of the lower
/// ids, first by the left one. Memory goes with the number of different words.
/// Usage: `BpeTrainer trainer(options); trainer.add(text); ...; trainer.train()`.
/// Source: Sennrich, Haddow, Birch 2016, arXiv:1508.07909, algorithm 1, on bytes as in Radford et
/// al. 2019, Language Models are Unsupervised Multitask Learners, section 2.2.
class BpeTrainer {
 public:
  /// @throws ArgumentError for options out of range, and special tokens that are empty, not UTF-8,
  ///         twice there or too many.
  explicit BpeTrainer(BpeTrainerOptions options);
  /// Counts the words of a text: any bytes, as `Tokenizer::encode` takes them.
  void add(std::string_view text);
  /// The document of the tokenizer. Ids are those of bytes, then of pairs in the order they were
  /// learned, then of special tokens.
  /// @throws ArgumentError where the texts have too few pairs for so many tokens
  Json train() const;

 private:
  BpeTrainerOptions options_;
  Json normalizer_part_;
  Json pre_tokenizer_part_;
  std::unique_ptr<Normalizer> normalizer_;
  std::unique_ptr<PreTokenizer> pre_tokenizer_;
  std::unordered_map<std::string, std::int64_t> counts_;  ///< of words
};

}  // namespace moekit::text
