#include "moekit/text/pre_tokenizers/metaspace.h"

#include "moekit/text/split_pieces.h"

namespace moekit::text {
namespace {

class Metaspace : public PreTokenizer {
 public:
  explicit Metaspace(MetaspaceOptions options) : options_(std::move(options)) {}

  void split(Piece piece, PieceSink& sink) const override {
    const std::string& mark = options_.replacement;
    std::string text;
    for (const char c : piece.text) {
      if (c == ' ') {
        text += mark;
      } else {
        text += c;
      }
    }
    const bool wanted = options_.prepend_scheme == PrependScheme::kAlways ||
                        (options_.prepend_scheme == PrependScheme::kFirst && piece.first);
    if (wanted && text.compare(0, mark.size(), mark) != 0) text.insert(0, mark);
    piece.text = text;
    if (!options_.split) return sink.take(piece);
    std::size_t from = 0;
    split_piece(piece, SplitBehavior::kMergedWithNext, false, sink, [&](Span& match) {
      const std::size_t at = text.find(mark, from);
      if (at == std::string::npos) return false;
      match = {at, at + mark.size()};
      from = match.end;
      return true;
    });
  }

 private:
  MetaspaceOptions options_;
};

}  // namespace

std::unique_ptr<PreTokenizer> make_metaspace(const MetaspaceOptions& options,
                                             const PreTokenizerSite& site) {
  return std::make_unique<Metaspace>(settled(options, site.place));
}

}  // namespace moekit::text
