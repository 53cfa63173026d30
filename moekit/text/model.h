#pragma once

#include <memory>
#include <string_view>
#include <vector>

#include "moekit/core/kinds.h"
#include "moekit/text/place.h"
#include "moekit/text/pre_tokenizer.h"
#include "moekit/text/vocabulary.h"

namespace moekit::text {

/// Turns words into ids.
class Model {
 public:
  virtual ~Model() = default;
  /// Appends the ids of a word. From several threads at once.
  /// @param word  not empty; UTF-8, or any bytes where the pre-tokenizer is `byte_level`
  /// @throws ArgumentError for a word that the model has no ids for
  virtual void encode(std::string_view word, std::vector<std::int32_t>& ids) const = 0;
  /// Divides a word where that changes no id, for texts that come as one: parts of it come again.
  virtual void divide(Piece word, PieceSink& sink) const { sink.take(word); }
};

/// What a model is made for.
struct ModelSite {
  Place place;
  bool byte_level = false;           ///< see `PreTokenizer::byte_level`
  Vocabulary* vocabulary = nullptr;  ///< empty: the model's tokens are added
};

/// The table of models, by their "type" in tokenizer.json.
struct ModelKinds {
  using Row = Kind<std::unique_ptr<Model>, ModelSite>;
  static constexpr const char* kWhat = "model";
  static const std::vector<Row>& rows();
};

/// Of a model with byte fallback, the tokens "<0x00>" to "<0xFF>"; -1 where there is none.
std::vector<std::int32_t> byte_tokens(const Vocabulary& vocabulary);

}  // namespace moekit::text
