#include "moekit/text/pre_tokenizers/sequence.h"

#include "moekit/text/part.h"

namespace moekit::text {
namespace {

class PreTokenizerSequence : public PreTokenizer {
 public:
  explicit PreTokenizerSequence(std::vector<std::unique_ptr<PreTokenizer>> parts)
      : parts_(std::move(parts)) {}

  void split(Piece piece, PieceSink& sink) const override { Stage{*this, 0, sink}.take(piece); }
  bool byte_level() const override { return !parts_.empty() && parts_.back()->byte_level(); }

 private:
  /// Gives pieces to the parts from `next` on.
  struct Stage : PieceSink {
    Stage(const PreTokenizerSequence& sequence, std::size_t next_part, PieceSink& end)
        : owner(sequence), next(next_part), sink(end) {}
    void take(Piece piece) override {
      if (next == owner.parts_.size()) return sink.take(piece);
      Stage rest(owner, next + 1, sink);
      owner.parts_[next]->split(piece, rest);
    }
    const PreTokenizerSequence& owner;
    std::size_t next;
    PieceSink& sink;
  };

  std::vector<std::unique_ptr<PreTokenizer>> parts_;
};

}  // namespace

std::unique_ptr<PreTokenizer> make_pre_tokenizer_sequence(
    const PreTokenizerSequenceOptions& options, const PreTokenizerSite& site) {
  const Place list = site.place.key("pretokenizers");
  auto parts = make_parts<PreTokenizerKinds>(options.pretokenizers, PreTokenizerSite{list});
  for (std::size_t i = 0; i + 1 < parts.size(); ++i) {
    MOEKIT_CHECK_FORMAT(!parts[i]->byte_level(), list.item(i),
                        ": ByteLevel must be the last of a sequence; it is ", i + 1, " of ",
                        parts.size());
  }
  return std::make_unique<PreTokenizerSequence>(std::move(parts));
}

}  // namespace moekit::text
