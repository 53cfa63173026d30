#pragma once

#include <memory>
#include <string_view>
#include <vector>

#include "moekit/core/kinds.h"
#include "moekit/text/place.h"

namespace moekit::text {

/// A part of a text.
struct Piece {
  std::string_view text;  ///< UTF-8
  bool first = false;     ///< whether the whole text begins with it
};

/// Takes pieces as they are found, so that no list of them is kept.
class PieceSink {
 public:
  virtual ~PieceSink() = default;
  /// @param piece  not empty; its text is there until the call returns
  virtual void take(Piece piece) = 0;
};

/// Divides pieces into smaller ones. The words that the last one gives are encoded one by one.
class PreTokenizer {
 public:
  virtual ~PreTokenizer() = default;
  /// @param piece  not empty
  virtual void split(Piece piece, PieceSink& sink) const = 0;
  /// Whether the words are bytes to the model, and its vocabulary is spelt in the alphabet of
  /// bytes (`byte_alphabet.h`).
  virtual bool byte_level() const { return false; }
};

/// What a pre-tokenizer is made for.
struct PreTokenizerSite {
  Place place;
};

/// The table of pre-tokenizers, by their "type" in tokenizer.json.
struct PreTokenizerKinds {
  using Row = Kind<std::unique_ptr<PreTokenizer>, PreTokenizerSite>;
  static constexpr const char* kWhat = "pre-tokenizer";
  static const std::vector<Row>& rows();
};

}  // namespace moekit::text
