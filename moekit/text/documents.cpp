#include "moekit/text/documents.h"

#include <set>

#include "moekit/core/error.h"
#include "moekit/core/files.h"
#include "moekit/text/byte_alphabet.h"
#include "moekit/text/utf8.h"

namespace moekit::text {
namespace {

Json special_token(const std::string& content, std::int64_t id) {
  return {{"id", id},        {"content", content},  {"single_word", false}, {"lstrip", false},
          {"rstrip", false}, {"normalized", false}, {"special", true}};
}

Json bpe_model(Json vocab, Json merges, const Json& unknown) {
  Json model = {{"type", "BPE"},
                {"dropout", nullptr},
                {"unk_token", unknown},
                {"continuing_subword_prefix", nullptr},
                {"end_of_word_suffix", nullptr},
                {"fuse_unk", false},
                {"byte_fallback", false},
                {"ignore_merges", false}};
  model["vocab"] = std::move(vocab);
  model["merges"] = std::move(merges);
  return model;
}

Json document_of(Json added_tokens, Json normalizer, Json pre_tokenizer, Json decoder, Json model) {
  Json document = {{"version", "1.0"}, {"truncation", nullptr}, {"padding", nullptr}};
  document["added_tokens"] = std::move(added_tokens);
  document["normalizer"] = std::move(normalizer);
  document["pre_tokenizer"] = std::move(pre_tokenizer);
  document["post_processor"] = nullptr;
  document["decoder"] = std::move(decoder);
  document["model"] = std::move(model);
  return document;
}

}  // namespace

Json byte_level_part(bool use_regex) {
  return {{"type", "ByteLevel"},
          {"add_prefix_space", false},
          {"trim_offsets", true},
          {"use_regex", use_regex}};
}

void append_key(Json& object, std::string key, Json value) {
  Json::object_t::Container& items = object.get_ref<Json::object_t&>();
  items.emplace_back(std::move(key), std::move(value));
}

Json byte_level_document(ByteLevelParts parts) {
  Json added = Json::array();
  for (const auto& [content, id] : parts.special_tokens)
    added.push_back(special_token(content, id));
  return document_of(std::move(added), std::move(parts.normalizer), std::move(parts.pre_tokenizer),
                     byte_level_part(true),
                     bpe_model(std::move(parts.vocab), std::move(parts.merges), nullptr));
}

Tokenizer byte_tokenizer() {
  ByteLevelParts parts;
  parts.pre_tokenizer = byte_level_part(false);
  for (int byte = 0; byte < 256; ++byte) {
    append_key(parts.vocab, spell_bytes(std::string(1, static_cast<char>(byte))), byte);
  }
  return Tokenizer::parse(byte_level_document(std::move(parts)), "byte tokenizer");
}

Tokenizer character_tokenizer(std::string_view text) {
  constexpr const char* kUnknown = "<unk>";
  const auto broken = broken_utf8_at(text);
  MOEKIT_CHECK(!broken, "character tokenizer: the text is not UTF-8 at byte ", broken.value_or(0));
  MOEKIT_CHECK(!text.empty(), "character tokenizer: the text is empty");
  std::set<std::string> characters;  // the order of bytes is that of Unicode
  for (std::size_t at = 0; at < text.size(); at += character_bytes(text[at])) {
    characters.emplace(text.substr(at, character_bytes(text[at])));
  }
  Json vocab = Json::object();
  for (const auto& character : characters) append_key(vocab, character, vocab.size());
  const std::size_t unknown = vocab.size();
  append_key(vocab, kUnknown, unknown);
  Json added = Json::array({special_token(kUnknown, static_cast<std::int64_t>(unknown))});
  return Tokenizer::parse(document_of(std::move(added), nullptr, nullptr, {{"type", "Fuse"}},
                                      bpe_model(std::move(vocab), Json::array(), kUnknown)),
                          "character tokenizer");
}

Json gpt2_document(const std::filesystem::path& merges, const std::filesystem::path& vocabulary) {
  constexpr const char* kEnd = "<|endoftext|>";
  ByteLevelParts parts;
  parts.pre_tokenizer = byte_level_part(true);
  parts.vocab = read_json(vocabulary);
  MOEKIT_CHECK_FORMAT(parts.vocab.is_object(), vocabulary.string(), ": must be an object of ids");
  const std::string lines = read_file(merges, kMaxJsonBytes);
  for (std::size_t begin = 0; begin < lines.size();) {
    const std::size_t end = std::min(lines.find('\n', begin), lines.size());
    if (end > begin) parts.merges.push_back(lines.substr(begin, end - begin));
    begin = end + 1;
  }
  const auto end = parts.vocab.find(kEnd);
  if (end != parts.vocab.end() && end->is_number_unsigned()) {
    parts.special_tokens.emplace_back(kEnd, end->get<std::int64_t>());
  }
  return byte_level_document(std::move(parts));
}

}  // namespace moekit::text
