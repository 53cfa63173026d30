#include "moekit/text/pre_tokenizers/split.h"

#include "moekit/text/pattern.h"

namespace moekit::text {
namespace {

class Split : public PreTokenizer {
 public:
  Split(Pattern pattern, SplitBehavior behavior, bool invert)
      : pattern_(std::move(pattern)), behavior_(behavior), invert_(invert) {}

  void split(Piece piece, PieceSink& sink) const override {
    Matches found(pattern_, piece.text);
    split_piece(piece, behavior_, invert_, sink, [&](Span& match) {
      if (!found.next()) return false;
      match = found.span;
      return true;
    });
  }

 private:
  Pattern pattern_;
  SplitBehavior behavior_;
  bool invert_;
};

}  // namespace

std::unique_ptr<PreTokenizer> make_split(const SplitOptions& options,
                                         const PreTokenizerSite& site) {
  return std::make_unique<Split>(Pattern(options.pattern, site.place.key("pattern")),
                                 options.behavior, options.invert);
}

}  // namespace moekit::text
