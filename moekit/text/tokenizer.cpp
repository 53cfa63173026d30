#include "moekit/text/tokenizer.h"

#include <fmt/format.h>

#include <algorithm>
#include <unordered_map>

#include "moekit/core/checksum.h"
#include "moekit/core/error.h"
#include "moekit/core/files.h"
#include "moekit/text/added_tokens.h"
#include "moekit/text/byte_alphabet.h"
#include "moekit/text/decoder.h"
#include "moekit/text/documents.h"
#include "moekit/text/model.h"
#include "moekit/text/normalizer.h"
#include "moekit/text/part.h"
#include "moekit/text/post_processor.h"
#include "moekit/text/pre_tokenizer.h"
#include "moekit/text/utf8.h"
#include "moekit/text/vocabulary.h"
#include "moekit/text/word_cache.h"

namespace moekit::text {
namespace fs = std::filesystem;
namespace {

/// Encodes the words that a pre-tokenizer gives.
class WordEncoder : public PieceSink {
 public:
  WordEncoder(const Model& model, WordCache& cache, std::vector<std::int32_t>& ids)
      : model_(model), cache_(cache), ids_(ids) {}
  void take(Piece piece) override {
    cache_.append(piece.text, ids_, [&](std::string_view word, std::vector<std::int32_t>& ids) {
      model_.encode(word, ids);
    });
  }

 private:
  const Model& model_;
  WordCache& cache_;
  std::vector<std::int32_t>& ids_;
};

}  // namespace

struct Tokenizer::State {
  std::string origin;
  std::string document;
  std::string checksum;
  Vocabulary vocabulary;
  AddedTokens written;     ///< looked for in the text as it comes
  AddedTokens normalized;  ///< and in the normalized text
  std::vector<std::int32_t> special_ids;
  std::unordered_map<std::int32_t, std::string> normalized_contents;  ///< where it is another
  std::unique_ptr<Normalizer> normalizer;
  std::unique_ptr<PreTokenizer> pre_tokenizer;
  std::unique_ptr<Model> model;
  std::unique_ptr<PostProcessor> post_processor;
  std::unique_ptr<Decoder> decoder;
  bool byte_level = false;
  mutable CachePool caches;

  void build(Json root);
  void add_tokens(const Json& list, const Place& place);
  void encode_part(std::string_view text, bool first, WordEncoder& words,
                   std::vector<std::int32_t>& ids) const;
};

void Tokenizer::State::build(Json root) {
  const Place place{origin, ""};
  if (!root.is_object()) refuse(place, "an object", root);
  constexpr std::string_view kKeys[] = {"version",        "truncation", "padding",
                                        "added_tokens",   "normalizer", "pre_tokenizer",
                                        "post_processor", "decoder",    "model"};
  for (const auto& [key, value] : root.items()) {
    MOEKIT_CHECK_FORMAT(std::find(std::begin(kKeys), std::end(kKeys), key) != std::end(kKeys),
                        place.key(key), ": unknown key");
  }
  const auto take = [&](const char* key) {
    const auto found = root.find(key);
    return found == root.end() ? Json() : std::move(*found);
  };
  const Json version = take("version");
  if (!version.is_null() && version != "1.0") refuse(place.key("version"), "\"1.0\"", version);
  for (const char* key : {"truncation", "padding"}) {
    const Json value = take(key);
    if (!value.is_null()) refuse(place.key(key), "null: texts are encoded whole", value);
  }
  if (Json part = take("normalizer"); !part.is_null()) {
    normalizer =
        make_part<NormalizerKinds>(std::move(part), NormalizerSite{place.key("normalizer")});
  }
  if (Json part = take("pre_tokenizer"); !part.is_null()) {
    pre_tokenizer =
        make_part<PreTokenizerKinds>(std::move(part), PreTokenizerSite{place.key("pre_tokenizer")});
    byte_level = pre_tokenizer->byte_level();
  }
  Json model_part = take("model");
  // Files of 2020, as that of GPT-2, do not name it.
  if (model_part.contains("merges") && !model_part.contains("type")) model_part["type"] = "BPE";
  model = make_part<ModelKinds>(std::move(model_part),
                                ModelSite{place.key("model"), byte_level, &vocabulary});
  add_tokens(take("added_tokens"), place.key("added_tokens"));
  if (Json part = take("post_processor"); !part.is_null()) {
    post_processor = make_part<PostProcessorKinds>(
        std::move(part), PostProcessorSite{place.key("post_processor"), &vocabulary});
  }
  if (Json part = take("decoder"); !part.is_null()) {
    decoder = make_part<DecoderKinds>(std::move(part), DecoderSite{place.key("decoder")});
  }
}

void Tokenizer::State::add_tokens(const Json& list, const Place& place) {
  if (list.is_null()) return;
  if (!list.is_array()) refuse(place, "a list", list);
  std::vector<AddedToken> as_written;
  std::vector<AddedToken> in_normalized;
  for (std::size_t i = 0; i < list.size(); ++i) {
    const Place at = place.item(i);
    AddedToken token;
    bind_part(list[i], at, token);
    MOEKIT_CHECK_FORMAT(!token.content.empty(), at.key("content"), " must not be empty");
    // Many are tokens of the model already.
    const auto known = vocabulary.find(token.content);
    if (!known || *known != token.id) vocabulary.add(token.content, token.id, at);
    const auto id = static_cast<std::int32_t>(token.id);
    if (token.special) special_ids.push_back(id);
    if (!token.normalized) {
      as_written.push_back(std::move(token));
      continue;
    }
    std::string content = token.content;
    if (normalizer) normalizer->apply(content);
    if (content != token.content) normalized_contents[id] = content;
    token.content = std::move(content);
    in_normalized.push_back(std::move(token));
  }
  std::sort(special_ids.begin(), special_ids.end());
  special_ids.erase(std::unique(special_ids.begin(), special_ids.end()), special_ids.end());
  written = AddedTokens(std::move(as_written));
  normalized = AddedTokens(std::move(in_normalized));
}

/// A part of a text without `written` tokens. @param text  UTF-8, not empty
void Tokenizer::State::encode_part(std::string_view text, bool first, WordEncoder& words,
                                   std::vector<std::int32_t>& ids) const {
  std::string changed;
  if (normalizer) {
    changed = text;
    normalizer->apply(changed);
    text = changed;
  }
  normalized.split(text, [&](std::string_view part, std::int32_t id) {
    if (id >= 0) {
      ids.push_back(id);
      return;
    }
    const Piece piece{part, first && part.data() == text.data()};
    if (pre_tokenizer) {
      pre_tokenizer->split(piece, words);
    } else {
      model->divide(piece, words);
    }
  });
}

Tokenizer Tokenizer::parse(std::string document, const std::string& origin) {
  auto state = std::make_shared<State>();
  state->origin = origin;
  state->build(parse_json(document, origin));
  state->document = std::move(document);
  state->checksum = sha256(state->document);
  return Tokenizer(std::move(state));
}

Tokenizer Tokenizer::parse(const Json& document, const std::string& origin) {
  return parse(dump_text(document) + "\n", origin);
}

Tokenizer Tokenizer::load(const fs::path& path) {
  std::error_code error;
  if (!fs::is_directory(path, error)) return parse(read_file(path, kMaxJsonBytes), path.string());
  if (const auto file = path / "tokenizer.json"; fs::exists(file, error)) return load(file);
  const auto merges = path / "vocab.bpe";
  const auto vocabulary = path / "encoder.json";
  if (!fs::exists(merges, error) || !fs::exists(vocabulary, error)) {
    throw IoError(
        concat(path.string(), ": holds neither tokenizer.json nor vocab.bpe and encoder.json"));
  }
  return parse(gpt2_document(merges, vocabulary), path.string());
}

std::vector<std::int32_t> Tokenizer::encode(std::string_view text, bool with_special) const {
  const State& state = *state_;
  const auto broken = broken_utf8_at(text);
  MOEKIT_CHECK(!broken || state.byte_level, state.origin, ": the text is not UTF-8 at byte ",
               broken.value_or(0), ", and this tokenizer takes characters");
  std::vector<std::int32_t> ids;
  auto cache = state.caches.take();
  WordEncoder words(*state.model, *cache, ids);
  state.written.split(text, [&](std::string_view part, std::int32_t id) {
    if (id >= 0) {
      ids.push_back(id);
      return;
    }
    const bool first = part.data() == text.data();
    if (!broken) return state.encode_part(part, first, words, ids);
    for_each_run(part, [&](std::string_view run, bool valid, std::size_t begin) {
      if (valid) {
        state.encode_part(run, first && begin == 0, words, ids);
      } else {
        words.take({run, false});
      }
    });
  });
  state.caches.give_back(std::move(cache));
  if (with_special && state.post_processor) state.post_processor->apply(ids);
  return ids;
}

std::string Tokenizer::decode_bytes(std::span<const std::int32_t> ids, bool skip_special) const {
  const State& state = *state_;
  std::vector<std::string> tokens;
  tokens.reserve(ids.size());
  for (std::size_t i = 0; i < ids.size(); ++i) {
    const std::string* content = state.vocabulary.content(ids[i]);
    MOEKIT_CHECK(content != nullptr, state.origin, ": id ", ids[i], ", number ", i, " of ",
                 ids.size(), ", is that of no token; ids are below ", state.vocabulary.size());
    if (skip_special && is_special(ids[i])) continue;
    const auto other = state.normalized_contents.find(ids[i]);
    tokens.push_back(other == state.normalized_contents.end() ? *content : other->second);
  }
  if (state.decoder) state.decoder->apply(tokens);
  std::string text;
  for (std::size_t i = 0; i < tokens.size(); ++i) {
    if (i > 0 && !state.decoder) text += ' ';  // as in the other implementation
    text += tokens[i];
  }
  return text;
}

std::string Tokenizer::decode(std::span<const std::int32_t> ids, bool skip_special) const {
  return with_replacements(decode_bytes(ids, skip_special));
}

std::int64_t Tokenizer::vocabulary_size() const { return state_->vocabulary.size(); }

std::string Tokenizer::token_text(std::int32_t id) const {
  const std::string* content = state_->vocabulary.content(id);
  MOEKIT_CHECK(content != nullptr, state_->origin, ": id ", id, " is that of no token");
  const std::string bytes =
      state_->byte_level ? bytes_spelt(*content).value_or(*content) : *content;
  std::string out;
  for (std::size_t at = 0; at < bytes.size();) {
    const Scanned next = scan_character(bytes, at);
    const auto lead = static_cast<unsigned char>(bytes[at]);
    const std::string_view character = std::string_view(bytes).substr(at, next.bytes);
    at += next.bytes;
    if (lead == ' ') {
      out += "\u2423";
    } else if (lead == '\n') {
      out += "\u23CE";
    } else if (!next.valid || lead < ' ' || lead == 0x7F) {
      for (const char c : character) {
        out += fmt::format("<0x{:02X}>", static_cast<unsigned char>(c));
      }
    } else {
      out += character;
    }
  }
  return out;
}

std::optional<std::int32_t> Tokenizer::id_of(std::string_view content) const {
  return state_->vocabulary.find(content);
}

bool Tokenizer::has(std::int64_t id) const { return state_->vocabulary.content(id) != nullptr; }

const std::vector<std::int32_t>& Tokenizer::special_ids() const { return state_->special_ids; }

bool Tokenizer::is_special(std::int32_t id) const {
  return std::binary_search(state_->special_ids.begin(), state_->special_ids.end(), id);
}

const std::string& Tokenizer::document() const { return state_->document; }
const std::string& Tokenizer::checksum() const { return state_->checksum; }
void Tokenizer::save(const fs::path& path) const { write_file_atomic(path, state_->document); }

}  // namespace moekit::text
