#include "moekit/text/byte_alphabet.h"

#include <array>

#include "moekit/text/utf8.h"

namespace moekit::text {
namespace {

struct ByteAlphabet {
  std::array<char32_t, 256> character{};
  std::array<int, 0x144> byte{};  ///< of a character; -1: of none
};

const ByteAlphabet& byte_alphabet() {
  static const ByteAlphabet kAlphabet = [] {
    ByteAlphabet made;
    made.byte.fill(-1);
    char32_t next = 0x100;
    for (int b = 0; b < 256; ++b) {
      const bool printable = (b >= '!' && b <= '~') || (b >= 0xA1 && b != 0xAD);
      const char32_t character = printable ? static_cast<char32_t>(b) : next++;
      made.character[static_cast<std::size_t>(b)] = character;
      made.byte[character] = b;
    }
    return made;
  }();
  return kAlphabet;
}

}  // namespace

std::string spell_bytes(std::string_view bytes) {
  std::string out;
  for (const char c : bytes) {
    append_character(out, byte_alphabet().character[static_cast<unsigned char>(c)]);
  }
  return out;
}

std::optional<std::string> bytes_spelt(std::string_view text) {
  const auto& byte = byte_alphabet().byte;
  std::string out;
  for (std::size_t at = 0; at < text.size(); at += character_bytes(text[at])) {
    const char32_t character = character_at(text, at);
    if (character >= byte.size() || byte[character] < 0) return std::nullopt;
    out += static_cast<char>(static_cast<unsigned char>(byte[character]));
  }
  return out;
}

}  // namespace moekit::text
