#include "moekit/text/decoders/sequence.h"

#include "moekit/text/part.h"
#include "moekit/text/utf8.h"

namespace moekit::text {
namespace {

class DecoderSequence : public Decoder {
 public:
  explicit DecoderSequence(std::vector<std::unique_ptr<Decoder>> parts)
      : parts_(std::move(parts)) {}

  void apply(std::vector<std::string>& tokens) const override {
    for (std::size_t i = 0; i < parts_.size(); ++i) {
      // What the last one leaves may be any bytes; those before it give UTF-8 on.
      if (i > 0) {
        for (auto& token : tokens) token = with_replacements(token);
      }
      parts_[i]->apply(tokens);
    }
  }

 private:
  std::vector<std::unique_ptr<Decoder>> parts_;
};

}  // namespace

std::unique_ptr<Decoder> make_decoder_sequence(const DecoderSequenceOptions& options,
                                               const DecoderSite& site) {
  return std::make_unique<DecoderSequence>(
      make_parts<DecoderKinds>(options.decoders, DecoderSite{site.place.key("decoders")}));
}

}  // namespace moekit::text
