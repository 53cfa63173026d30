#include "moekit/text/pre_tokenizers/byte_level.h"

#include <optional>

#include "moekit/text/pattern.h"
#include "moekit/text/split_pieces.h"

namespace moekit::text {
namespace {

class ByteLevel : public PreTokenizer {
 public:
  ByteLevel(const ByteLevelOptions& options, const Place& place)
      : add_prefix_space_(options.add_prefix_space) {
    if (options.use_regex) words_.emplace(Regex(kGpt2Pattern, place));
  }

  void split(Piece piece, PieceSink& sink) const override {
    std::string with_space;
    if (add_prefix_space_ && piece.text.front() != ' ') {
      with_space = ' ';
      with_space += piece.text;
      piece.text = with_space;
    }
    if (!words_) return sink.take(piece);
    Matches found(*words_, piece.text);
    split_piece(piece, SplitBehavior::kIsolated, false, sink, [&](Span& match) {
      if (!found.next()) return false;
      match = found.span;
      return true;
    });
  }
  bool byte_level() const override { return true; }

 private:
  bool add_prefix_space_;
  std::optional<Pattern> words_;
};

}  // namespace

std::unique_ptr<PreTokenizer> make_byte_level(const ByteLevelOptions& options,
                                              const PreTokenizerSite& site) {
  return std::make_unique<ByteLevel>(options, site.place);
}

}  // namespace moekit::text
