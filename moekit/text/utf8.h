#pragma once

#include <cstddef>
#include <optional>
#include <string>
#include <string_view>

namespace moekit::text {

/// What stands at a place of some bytes: a character of UTF-8, or as many bytes as belong to a
/// broken one (its "maximal subpart": Unicode 15, section 3.9).
struct Scanned {
  std::size_t bytes;
  bool valid;
};
/// @param at  below text.size()
Scanned scan_character(std::string_view text, std::size_t at);

/// Where the first byte stands that belongs to no character; nothing where all is UTF-8.
std::optional<std::size_t> broken_utf8_at(std::string_view text);

/// The bytes with U+FFFD in place of what is no UTF-8, one for each maximal subpart.
std::string with_replacements(std::string_view bytes);

/// Bytes of the character that begins with `lead`, in text that is UTF-8.
inline std::size_t character_bytes(char lead) {
  const auto byte = static_cast<unsigned char>(lead);
  return byte < 0x80 ? 1 : byte < 0xE0 ? 2 : byte < 0xF0 ? 3 : 4;
}
/// Its number. @param at  where a character of text begins, which is UTF-8
char32_t character_at(std::string_view text, std::size_t at);
/// Where the character begins that ends before `end`, which is above 0.
std::size_t character_before(std::string_view text, std::size_t end);
/// Whether a text that is UTF-8 is one character.
inline bool is_one_character(std::string_view text) {
  return !text.empty() && character_bytes(text[0]) == text.size();
}

void append_character(std::string& out, char32_t character);

/// Unicode's White_Space.
bool is_white_space(char32_t character);
/// Of Unicode's category N: digits, and other numbers.
bool is_number(char32_t character);
/// A letter, mark, decimal digit or connecting punctuation (UTS 18, annex C: \w).
bool is_word_character(char32_t character);

/// Divides bytes into the longest runs that are UTF-8 and what lies between them.
/// @param run  called as run(std::string_view bytes, bool valid, std::size_t begin)
template <typename Run>
void for_each_run(std::string_view bytes, Run&& run) {
  std::size_t begin = 0;
  while (begin < bytes.size()) {
    const bool valid = scan_character(bytes, begin).valid;
    std::size_t end = begin;
    if (valid) {
      end = begin + broken_utf8_at(bytes.substr(begin)).value_or(bytes.size() - begin);
    } else {
      while (end < bytes.size()) {
        const Scanned next = scan_character(bytes, end);
        if (next.valid) break;
        end += next.bytes;
      }
    }
    run(bytes.substr(begin, end - begin), valid, begin);
    begin = end;
  }
}

}  // namespace moekit::text
