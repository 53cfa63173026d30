#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "moekit/core/json.h"

namespace moekit::text {

/// Text to ids and back, as a document in the form of Hugging Face's tokenizer.json says, and
/// nothing else. Its parts are tables of kinds: normalizers, pre-tokenizers, models,
/// post-processors and decoders; a part that is null is absent. Ids are those that Hugging Face's
/// tokenizers 0.23 gives, except where that leaves text out silently: a character without a token
/// and an id without one are refused.
///
/// Copies share everything, and all const functions may be called from several threads at once.
class Tokenizer {
 public:
  /// @param path  a tokenizer.json; or a folder that holds one, or GPT-2's `vocab.bpe` and
  ///              `encoder.json`
  /// @throws IoError; FormatError naming file, key and value for all that is not understood: no
  ///         part of a document is passed over.
  static Tokenizer load(const std::filesystem::path& path);
  /// @param document  the text of a tokenizer.json. @param origin  stands for the file in messages
  static Tokenizer parse(std::string document, const std::string& origin);
  static Tokenizer parse(const Json& document, const std::string& origin);

  /// @param text  UTF-8. Byte-level tokenizers take any bytes: those that are no UTF-8 are words of
  ///              their own between the others, and `decode_bytes` gives them back.
  /// @param with_special  whether the post-processor adds what belongs around a text. Special
  /// tokens
  ///                      within the text are found in any case.
  /// @throws ArgumentError for text that is not UTF-8, with the byte where it breaks, and for
  ///         characters that have no token; FormatError where a pattern is given up.
  std::vector<std::int32_t> encode(std::string_view text, bool with_special = false) const;

  /// The text of some ids, as UTF-8: what is none is U+FFFD. @throws ArgumentError for an id that
  /// no token has
  std::string decode(std::span<const std::int32_t> ids, bool skip_special = false) const;
  /// As `decode`, before that: the ids of a text may be cut within a character.
  std::string decode_bytes(std::span<const std::int32_t> ids, bool skip_special = false) const;

  /// One past the highest id.
  std::int64_t vocabulary_size() const;
  /// What a page shows of a token: its bytes as text, with a space as U+2423, a line break as
  /// U+23CE, and other control characters and broken bytes as "<0x1B>". @throws ArgumentError
  std::string token_text(std::int32_t id) const;
  /// The token that the document spells so: "<|endoftext|>", "\u0120the".
  std::optional<std::int32_t> id_of(std::string_view content) const;
  /// Whether a token has the id.
  bool has(std::int64_t id) const;
  /// Of the added tokens that are special, ascending.
  const std::vector<std::int32_t>& special_ids() const;
  bool is_special(std::int32_t id) const;

  /// The document, as it was read.
  const std::string& document() const;
  /// SHA-256 of the document: of the tokenizer that ids belong to.
  const std::string& checksum() const;
  /// Writes the document, atomically. @throws IoError
  void save(const std::filesystem::path& path) const;

 private:
  struct State;
  explicit Tokenizer(std::shared_ptr<const State> state) : state_(std::move(state)) {}
  std::shared_ptr<const State> state_;
};

}  // namespace moekit::text
