#include "moekit/text/normalizers/unicode_form.h"

#include <utf8proc.h>

#include <algorithm>
#include <cstdlib>

namespace moekit::text {
namespace {

class UnicodeForm : public Normalizer {
 public:
  /// @param same_below  texts whose bytes are all below are in this form
  UnicodeForm(int options, unsigned char same_below)
      : options_(static_cast<utf8proc_option_t>(options | UTF8PROC_STABLE)),
        same_below_(same_below) {}

  void apply(std::string& text) const override {
    const bool same = std::all_of(text.begin(), text.end(), [&](char c) {
      return static_cast<unsigned char>(c) < same_below_;
    });
    if (same) return;
    utf8proc_uint8_t* made = nullptr;
    const auto bytes = utf8proc_map(reinterpret_cast<const utf8proc_uint8_t*>(text.data()),
                                    static_cast<utf8proc_ssize_t>(text.size()), &made, options_);
    const std::unique_ptr<utf8proc_uint8_t, decltype(&std::free)> owner(made, &std::free);
    MOEKIT_CHECK(bytes >= 0, "a text of ", text.size(),
                 " bytes cannot be normalized: ", utf8proc_errmsg(bytes));
    text.assign(reinterpret_cast<const char*>(made), static_cast<std::size_t>(bytes));
  }

 private:
  utf8proc_option_t options_;
  unsigned char same_below_;
};

constexpr unsigned char kAscii = 0x80;
// U+0300, the first character that NFC changes or joins to another one, begins with CC.
constexpr unsigned char kBeforeMarks = 0xCC;

}  // namespace

std::unique_ptr<Normalizer> make_nfc(const NoOptions&, const NormalizerSite&) {
  return std::make_unique<UnicodeForm>(UTF8PROC_COMPOSE, kBeforeMarks);
}
std::unique_ptr<Normalizer> make_nfd(const NoOptions&, const NormalizerSite&) {
  return std::make_unique<UnicodeForm>(UTF8PROC_DECOMPOSE, kAscii);
}
std::unique_ptr<Normalizer> make_nfkc(const NoOptions&, const NormalizerSite&) {
  return std::make_unique<UnicodeForm>(UTF8PROC_COMPOSE | UTF8PROC_COMPAT, kAscii);
}
std::unique_ptr<Normalizer> make_nfkd(const NoOptions&, const NormalizerSite&) {
  return std::make_unique<UnicodeForm>(UTF8PROC_DECOMPOSE | UTF8PROC_COMPAT, kAscii);
}

}  // namespace moekit::text
