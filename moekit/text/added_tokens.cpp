#include "moekit/text/added_tokens.h"

#include <algorithm>

#include "moekit/text/utf8.h"

namespace moekit::text {

AddedTokens::AddedTokens(std::vector<AddedToken> tokens) : tokens_(std::move(tokens)) {
  std::vector<std::pair<std::string, std::int32_t>> entries;
  for (std::size_t i = 0; i < tokens_.size(); ++i) {
    entries.emplace_back(tokens_[i].content, static_cast<std::int32_t>(i));
  }
  trie_ = ByteTrie(std::move(entries));
}

// Texts may be any bytes: what stands beside a token, which is UTF-8, may be broken.

bool AddedTokens::within_word(std::string_view text, std::size_t begin, std::size_t end) {
  const auto word_at = [&](std::size_t at) {
    return scan_character(text, at).valid && is_word_character(character_at(text, at));
  };
  return (begin > 0 && word_at(character_before(text, begin))) ||
         (end < text.size() && word_at(end));
}

std::size_t AddedTokens::space_before(std::string_view text, std::size_t end, std::size_t least) {
  while (end > least) {
    const std::size_t at = character_before(text, end);
    if (!scan_character(text, at).valid || !is_white_space(character_at(text, at))) break;
    end = at;
  }
  return std::max(end, least);
}

std::size_t AddedTokens::space_behind(std::string_view text, std::size_t begin) {
  while (begin < text.size() && scan_character(text, begin).valid &&
         is_white_space(character_at(text, begin))) {
    begin += character_bytes(text[begin]);
  }
  return begin;
}

}  // namespace moekit::text
