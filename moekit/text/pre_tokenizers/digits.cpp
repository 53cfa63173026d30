#include "moekit/text/pre_tokenizers/digits.h"

#include "moekit/text/split_pieces.h"
#include "moekit/text/utf8.h"

namespace moekit::text {
namespace {

class Digits : public PreTokenizer {
 public:
  explicit Digits(bool individual)
      : behavior_(individual ? SplitBehavior::kIsolated : SplitBehavior::kContiguous) {}

  void split(Piece piece, PieceSink& sink) const override {
    std::size_t at = 0;
    split_piece(piece, behavior_, false, sink, [&](Span& match) {
      while (at < piece.text.size()) {
        match = {at, at + character_bytes(piece.text[at])};
        at = match.end;
        if (is_number(character_at(piece.text, match.begin))) return true;
      }
      return false;
    });
  }

 private:
  SplitBehavior behavior_;
};

}  // namespace

std::unique_ptr<PreTokenizer> make_digits(const DigitsOptions& options, const PreTokenizerSite&) {
  return std::make_unique<Digits>(options.individual_digits);
}

}  // namespace moekit::text
