#pragma once

#include <algorithm>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "moekit/text/byte_trie.h"
#include "moekit/text/vocabulary.h"

namespace moekit::text {

/// A token that is found in the text before everything else, as `added_tokens` lists them.
struct AddedToken {
  std::int64_t id = -1;
  std::string content;
  bool single_word = false;
  bool lstrip = false;
  bool rstrip = false;
  bool normalized = true;
  bool special = false;

  template <typename Field>
  void visit(Field&& field) {
    field("id", id, "also where the model has the token already");
    field("content", content, "the text it stands for");
    field("single_word", single_word, "not within a word");
    field("lstrip", lstrip, "takes the white space before it");
    field("rstrip", rstrip, "and behind it");
    field("normalized", normalized, "looked for in the normalized text");
    field("special", special, "left out of decoded text if asked");
  }
};

/// Finds added tokens in a text: the leftmost, of those the longest.
class AddedTokens {
 public:
  AddedTokens() = default;
  /// @param tokens  with the content to look for
  explicit AddedTokens(std::vector<AddedToken> tokens);

  /// Calls found(std::string_view part, std::int32_t id) for the parts of the text in order, with
  /// id -1 for what lies between tokens; such parts are not empty.
  template <typename Found>
  void split(std::string_view text, Found&& found) const {
    std::size_t end = 0;  // of what was given out
    if (!trie_.empty()) {
      for (std::size_t at = 0; at < text.size();) {
        if (!trie_.begins_with(text[at])) {
          ++at;
          continue;
        }
        std::size_t bytes = 0;
        std::int32_t index = -1;
        trie_.prefixes(text, at, [&](std::size_t longer, std::int32_t value) {
          bytes = longer;
          index = value;
        });
        if (index < 0) {
          ++at;
          continue;
        }
        const AddedToken& token = tokens_[static_cast<std::size_t>(index)];
        std::size_t begin = at;
        std::size_t stop = at + bytes;
        at = stop;
        if (token.single_word && within_word(text, begin, stop)) continue;
        if (token.lstrip) begin = space_before(text, begin, end);
        if (token.rstrip) stop = space_behind(text, std::max(stop, end));
        // One of white space alone may lie in what the token before it took.
        if (begin >= stop) continue;
        if (end < begin) found(text.substr(end, begin - end), -1);
        found(text.substr(begin, stop - begin), static_cast<std::int32_t>(token.id));
        end = stop;
      }
    }
    if (end < text.size()) found(text.substr(end), -1);
  }

 private:
  static bool within_word(std::string_view text, std::size_t begin, std::size_t end);
  /// Where the white space begins that ends at `end`, not before `least`.
  static std::size_t space_before(std::string_view text, std::size_t end, std::size_t least);
  static std::size_t space_behind(std::string_view text, std::size_t begin);

  std::vector<AddedToken> tokens_;
  ByteTrie trie_;
};

}  // namespace moekit::text
