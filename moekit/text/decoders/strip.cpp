#include "moekit/text/decoders/strip.h"

#include "moekit/text/utf8.h"

namespace moekit::text {
namespace {

class StripDecoder : public Decoder {
 public:
  explicit StripDecoder(StripDecoderOptions options) : options_(std::move(options)) {}

  void apply(std::vector<std::string>& tokens) const override {
    const std::string& cut = options_.content;
    for (auto& token : tokens) {
      std::size_t begin = 0;
      std::size_t end = token.size();
      for (std::int64_t i = 0; i < options_.start; ++i) {
        if (token.compare(begin, cut.size(), cut) != 0) break;
        begin += cut.size();
      }
      for (std::int64_t i = 0; i < options_.stop; ++i) {
        if (end - begin < cut.size() || token.compare(end - cut.size(), cut.size(), cut) != 0) {
          break;
        }
        end -= cut.size();
      }
      token = token.substr(begin, end - begin);
    }
  }

 private:
  StripDecoderOptions options_;
};

}  // namespace

std::unique_ptr<Decoder> make_strip_decoder(const StripDecoderOptions& options,
                                            const DecoderSite& site) {
  if (!is_one_character(options.content)) {
    refuse(site.place.key("content"), "one character", options.content);
  }
  return std::make_unique<StripDecoder>(options);
}

}  // namespace moekit::text
