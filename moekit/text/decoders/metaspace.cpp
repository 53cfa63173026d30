#include "moekit/text/decoders/metaspace.h"

namespace moekit::text {
namespace {

class MetaspaceDecoder : public Decoder {
 public:
  explicit MetaspaceDecoder(MetaspaceOptions options) : options_(std::move(options)) {}

  void apply(std::vector<std::string>& tokens) const override {
    const std::string& mark = options_.replacement;
    bool first = options_.prepend_scheme != PrependScheme::kNever;
    for (auto& token : tokens) {
      std::string text;
      std::size_t end = 0;
      std::size_t at = 0;
      while ((at = token.find(mark, end)) != std::string::npos) {
        text.append(token, end, at - end);
        if (!first) text += ' ';
        end = at + mark.size();
      }
      text.append(token, end);
      token = std::move(text);
      first = false;
    }
  }

 private:
  MetaspaceOptions options_;
};

}  // namespace

std::unique_ptr<Decoder> make_metaspace_decoder(const MetaspaceOptions& options,
                                                const DecoderSite& site) {
  return std::make_unique<MetaspaceDecoder>(settled(options, site.place));
}

}  // namespace moekit::text
