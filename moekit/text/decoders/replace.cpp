#include "moekit/text/decoders/replace.h"

#include "moekit/text/pattern.h"

namespace moekit::text {
namespace {

class ReplaceDecoder : public Decoder {
 public:
  ReplaceDecoder(Pattern pattern, std::string content)
      : pattern_(std::move(pattern)), content_(std::move(content)) {}
  void apply(std::vector<std::string>& tokens) const override {
    for (auto& token : tokens) token = replace_all(pattern_, token, content_);
  }

 private:
  Pattern pattern_;
  std::string content_;
};

}  // namespace

std::unique_ptr<Decoder> make_replace_decoder(const ReplaceOptions& options,
                                              const DecoderSite& site) {
  return std::make_unique<ReplaceDecoder>(Pattern(options.pattern, site.place.key("pattern")),
                                          options.content);
}

}  // namespace moekit::text
