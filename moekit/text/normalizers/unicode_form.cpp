#include "moekit/text/normalizers/unicode_form.h"

#include <utf8proc.h>

#include <algorithm>
#include <array>
#include <vector>

#include "moekit/text/utf8.h"

namespace moekit::text {
namespace {

constexpr unsigned char kAscii = 0x80;
// U+0300, the first character that NFC changes or joins to another one, begins with CC.
constexpr unsigned char kBeforeMarks = 0xCC;

class UnicodeForm : public Normalizer {
 public:
  /// @param same_below  texts whose bytes are all below are in this form
  UnicodeForm(int options, unsigned char same_below)
      : options_(static_cast<utf8proc_option_t>(options | UTF8PROC_STABLE)),
        same_below_(same_below) {}

  /// By stretches that begin with a character before one that may change, and end before the next
  /// one of ASCII, which nothing before it is joined to: what lies between them is as it was.
  void apply(std::string& text) const override {
    const auto may_change = [&](char c) { return static_cast<unsigned char>(c) >= same_below_; };
    std::string out;
    std::size_t done = 0;
    for (;;) {
      const auto from = text.begin() + static_cast<std::ptrdiff_t>(done);
      const auto found = std::find_if(from, text.end(), may_change);
      if (found == text.end()) break;
      auto begin = static_cast<std::size_t>(found - text.begin());
      if (begin > done) begin = character_before(text, begin);
      const auto ascii = std::find_if(
          found, text.end(), [](char c) { return static_cast<unsigned char>(c) < kAscii; });
      const auto end = static_cast<std::size_t>(ascii - text.begin());
      out.append(text, done, begin - done);
      append_form(std::string_view(text).substr(begin, end - begin), out);
      done = end;
    }
    if (done == 0) return;
    out.append(text, done);
    text = std::move(out);
  }

 private:
  /// As utf8proc_map, whose ordering of marks takes quadratic time where many follow each other.
  void append_form(std::string_view stretch, std::string& out) const {
    std::vector<utf8proc_int32_t> characters;
    for (std::size_t at = 0; at < stretch.size(); at += character_bytes(stretch[at])) {
      std::array<utf8proc_int32_t, 32> parts{};  // no character has more than 18
      const auto count = utf8proc_decompose_char(
          static_cast<utf8proc_int32_t>(character_at(stretch, at)), parts.data(),
          static_cast<utf8proc_ssize_t>(parts.size()), options_, nullptr);
      MOEKIT_CHECK(count >= 0 && count <= static_cast<utf8proc_ssize_t>(parts.size()),
                   "a text cannot be normalized: ", utf8proc_errmsg(count));
      characters.insert(characters.end(), parts.begin(), parts.begin() + count);
    }
    order_marks(characters);
    const auto count = utf8proc_normalize_utf32(
        characters.data(), static_cast<utf8proc_ssize_t>(characters.size()), options_);
    MOEKIT_CHECK(count >= 0, "a text cannot be normalized: ", utf8proc_errmsg(count));
    characters.resize(static_cast<std::size_t>(count));
    for (const auto character : characters) {
      append_character(out, static_cast<char32_t>(character));
    }
  }

  /// Marks behind a character by their class, those of one class as they were.
  static void order_marks(std::vector<utf8proc_int32_t>& characters) {
    const auto mark_class = [](utf8proc_int32_t character) {
      return utf8proc_get_property(character)->combining_class;
    };
    for (auto begin = characters.begin(); begin != characters.end();) {
      const auto end = std::find_if(begin, characters.end(), [&](utf8proc_int32_t character) {
        return mark_class(character) == 0;
      });
      std::stable_sort(begin, end, [&](utf8proc_int32_t a, utf8proc_int32_t b) {
        return mark_class(a) < mark_class(b);
      });
      begin = end == characters.end() ? end : end + 1;
    }
  }

  utf8proc_option_t options_;
  unsigned char same_below_;
};

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
