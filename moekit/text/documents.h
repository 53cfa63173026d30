#pragma once

#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

#include "moekit/text/tokenizer.h"

namespace moekit::text {

/// 256 ids, which are the bytes.
Tokenizer byte_tokenizer();

/// An id for each character of a text, in the order of Unicode, and behind them one of "<unk>",
/// which stands for every other character. @throws ArgumentError for text that is empty or not
/// UTF-8
Tokenizer character_tokenizer(std::string_view text);

/// GPT-2's two files as one document. @throws IoError; FormatError
Json gpt2_document(const std::filesystem::path& merges, const std::filesystem::path& vocabulary);

/// What a document of a byte-level BPE is made of.
struct ByteLevelParts {
  Json normalizer;
  Json pre_tokenizer;
  Json vocab = Json::object();  ///< ids by token, spelt in the alphabet of bytes
  Json merges = Json::array();
  std::vector<std::pair<std::string, std::int64_t>> special_tokens;
};
Json byte_level_document(ByteLevelParts parts);
/// Pre-tokenizer or decoder. @param use_regex  whether it divides into the words of GPT-2
Json byte_level_part(bool use_regex);

/// Adds a key without looking for it, which `Json` does by going through all of them.
void append_key(Json& object, std::string key, Json value);

}  // namespace moekit::text
