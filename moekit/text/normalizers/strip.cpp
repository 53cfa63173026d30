#include "moekit/text/normalizers/strip.h"

#include "moekit/text/utf8.h"

namespace moekit::text {
namespace {

class StripNormalizer : public Normalizer {
 public:
  explicit StripNormalizer(StripNormalizerOptions options) : options_(options) {}

  void apply(std::string& text) const override {
    std::size_t begin = 0;
    std::size_t end = text.size();
    while (options_.strip_left && begin < end && is_white_space(character_at(text, begin))) {
      begin += character_bytes(text[begin]);
    }
    while (options_.strip_right && begin < end) {
      const std::size_t last = character_before(text, end);
      if (!is_white_space(character_at(text, last))) break;
      end = last;
    }
    text = text.substr(begin, end - begin);
  }

 private:
  StripNormalizerOptions options_;
};

}  // namespace

std::unique_ptr<Normalizer> make_strip_normalizer(const StripNormalizerOptions& options,
                                                  const NormalizerSite&) {
  return std::make_unique<StripNormalizer>(options);
}

}  // namespace moekit::text
