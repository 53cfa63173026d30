#pragma once

#include <optional>
#include <string>
#include <string_view>

namespace moekit::text {

/// The alphabet in which byte-level vocabularies are spelt: each byte is a printable character,
/// itself where it is one of Latin-1, else one from U+0100 on. A space is "\u0120".
/// Source: Radford et al. 2019, Language Models are Unsupervised Multitask Learners, section 2.2;
/// their encoder.py, bytes_to_unicode.
std::string spell_bytes(std::string_view bytes);

/// The bytes that a text in that alphabet spells; nothing where it has another character.
/// @param text  UTF-8
std::optional<std::string> bytes_spelt(std::string_view text);

}  // namespace moekit::text
