#include "moekit/text/normalizers/lowercase.h"

#include <utf8proc.h>

#include "moekit/text/utf8.h"

namespace moekit::text {
namespace {

class Lowercase : public Normalizer {
 public:
  void apply(std::string& text) const override {
    constexpr char32_t kDottedI = 0x130;  // the one whose small form is two characters
    std::string out;
    for (std::size_t at = 0; at < text.size(); at += character_bytes(text[at])) {
      const char32_t character = character_at(text, at);
      if (character == kDottedI) {
        out += "i\xCC\x87";
      } else {
        append_character(
            out, static_cast<char32_t>(utf8proc_tolower(static_cast<utf8proc_int32_t>(character))));
      }
    }
    text = std::move(out);
  }
};

}  // namespace

std::unique_ptr<Normalizer> make_lowercase(const NoOptions&, const NormalizerSite&) {
  return std::make_unique<Lowercase>();
}

}  // namespace moekit::text
