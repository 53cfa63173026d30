#pragma once

#include <torch/types.h>

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "moekit/data/corpora.h"
#include "moekit/tasks/language/config.h"
#include "moekit/tasks/language/token_store.h"
#include "moekit/text/tokenizer.h"

namespace moekit::language {

/// Stands at the beginning of every text, where a tokenizer has it.
inline constexpr std::string_view kEndOfText = "<|endoftext|>";

/// Tokens of one domain: its documents one after the other, each begun by the tokenizer's mark of a
/// text's end where it has one, so that the last token of a document has something to foretell.
struct DomainTokens {
  std::string name;
  std::shared_ptr<const TokenStore> tokens;
  std::vector<int64_t> starts;  ///< of documents, ascending, from 0
  int64_t train = 0;            ///< tokens that are trained on; the others are judged
};

/// Windows of T + 1 tokens of a few domains.
struct Windows {
  torch::Tensor ids;     ///< [B, T + 1] int64
  torch::Tensor first;   ///< [B, T] int32, see nn::AttentionSettings; undefined: all
  torch::Tensor domain;  ///< [B] int64
  /// [B, T] bool: whether the next token is part of an answer, see `data.answers`; undefined: all
  /// are taken
  torch::Tensor answer;
};

/// Ids that an answer stands between.
struct AnswerMarks {
  int64_t question = -1;  ///< that a document begins with
  int64_t begin = -1;     ///< "="
  int64_t end = -1;       ///< of the line
};

/// Texts as a run takes them.
struct TextData {
  text::Tokenizer tokenizer;
  std::vector<DomainTokens> domains;
  std::vector<double> weights;       ///< of domains, their sum is 1
  std::vector<int32_t> token_bytes;  ///< [V] bytes of the text that a token stands for
  std::string checksum;              ///< of texts and tokenizer
  std::optional<AnswerMarks> answers = std::nullopt;

  int64_t vocabulary_size() const { return tokenizer.vocabulary_size(); }
  /// `count` windows of the training texts, drawn: a domain by its weight, then a place in it.
  Windows draw(int64_t count, int64_t length, uint64_t seed, bool documents) const;
  /// Windows of a domain's judged texts, evenly spread and not overlapping; as many as there are.
  Windows judged(size_t domain, int64_t count, int64_t length, bool documents) const;

 private:
  Windows with_answers(Windows windows) const;
};

/// The texts that `data.corpus` names, or those of `data.generated`; the default ones where both
/// are empty.
/// @throws IoError, FormatError, ArgumentError
std::vector<data::TextDomain> read_texts(const DataConfig& config);

/// The tokenizer that a recipe names, learned where it is to be.
/// @throws ArgumentError naming the key
text::Tokenizer make_tokenizer(const DataConfig& config,
                               const std::vector<data::TextDomain>& domains);

/// Cuts a domain's documents, in the order a run takes them in.
/// @param take  a document's ids, and its size in bytes; false to stop
/// @throws ArgumentError naming the text that has no tokens
void encode_domain(const data::TextDomain& domain, const text::Tokenizer& tokenizer,
                   const std::function<bool(const std::vector<int32_t>& ids, size_t bytes)>& take);

/// How many of a domain's tokens are trained on.
int64_t training_tokens(int64_t tokens, double validation_share);

/// Reads the texts, makes the tokenizer where it is to be learned, and divides them.
/// @throws ArgumentError naming the key: too few tokens for a window; IoError, FormatError
TextData load_text_data(const Config& config);

}  // namespace moekit::language
