#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "moekit/core/files.h"
#include "moekit/text/tokenizer.h"

namespace moekit::text {

/// A file of ids. All numbers are little-endian:
///
///     8 bytes       length of the header, such that 8 + length is a multiple of 8
///     header        JSON, filled up with spaces: format "moekit-tokens", version 1, dtype "uint16"
///                   or "uint32", vocabulary_size, tokenizer (SHA-256 of its document), tokens N,
///                   documents D, domains (their names)
///     8 D bytes     where each document ends, counted in tokens
///     4 D bytes     which of the domains it is of
///     N ids
inline constexpr std::int64_t kTokenFileVersion = 1;

/// Writes such a file, atomically, document by document; nothing of the text is kept in memory. The
/// ids are first written to a file without a name in the same folder, since the header says how
/// many they are. Usage: `TokenFileWriter out(path, tokenizer, {"news", "code"}); out.append(ids);
/// out.end_document(0); out.commit();`
class TokenFileWriter {
 public:
  /// @param domains  names, at least one
  /// @throws ArgumentError for names that are not UTF-8 or stand there twice; IoError.
  TokenFileWriter(const std::filesystem::path& path, const Tokenizer& tokenizer,
                  std::vector<std::string> domains);
  TokenFileWriter(const TokenFileWriter&) = delete;
  TokenFileWriter& operator=(const TokenFileWriter&) = delete;
  ~TokenFileWriter();

  /// Ids of the current document. @throws ArgumentError for one beyond the vocabulary; IoError.
  void append(std::span<const std::int32_t> ids);
  /// The next id begins another document. @param domain  index into the names. @throws
  /// ArgumentError
  void end_document(std::size_t domain);
  std::int64_t tokens() const { return tokens_; }

  /// @throws ArgumentError where the last document has not ended; IoError.
  void commit();

 private:
  class Spool;
  std::filesystem::path path_;
  std::int64_t vocabulary_size_;
  std::string tokenizer_;
  std::vector<std::string> domains_;
  std::unique_ptr<Spool> ids_;
  std::unique_ptr<Spool> ends_;
  std::unique_ptr<Spool> labels_;
  std::int64_t tokens_ = 0;
  std::int64_t documents_ = 0;
  std::int64_t last_end_ = 0;
};

class TokenFile;

/// The ids of a token file, which has to live longer.
class TokenView {
 public:
  std::int64_t size() const { return size_; }
  /// @throws ArgumentError out of range; FormatError for an id beyond the vocabulary.
  std::int32_t operator[](std::int64_t i) const;
  /// The ids from `begin` on, as many as `out` takes. @throws as operator[]
  void copy(std::int64_t begin, std::span<std::int32_t> out) const;
  void copy(std::int64_t begin, std::span<std::int64_t> out) const;

 private:
  friend class TokenFile;
  template <typename Id>
  void copy_as(std::int64_t begin, std::span<Id> out) const;

  const TokenFile* file_ = nullptr;
  const char* data_ = nullptr;
  std::int64_t size_ = 0;
  bool wide_ = false;  ///< uint32
};

/// Reads such a file, mapped into memory: ids come from the disk when they are touched.
class TokenFile {
 public:
  /// Reads header and documents. @throws IoError, or FormatError naming path and key: a file of
  /// another size than its header says, ends of documents that are not in order, labels of no
  /// domain.
  explicit TokenFile(const std::filesystem::path& path);
  TokenFile(const TokenFile&) = delete;
  TokenFile& operator=(const TokenFile&) = delete;

  const TokenView& tokens() const { return tokens_; }
  std::int64_t documents() const { return documents_; }
  /// Tokens begin..end of a document. @throws ArgumentError, as all below, out of range.
  std::int64_t begin_of(std::int64_t document) const;
  std::int64_t end_of(std::int64_t document) const;
  /// The document that a token is of. @param position  0..tokens().size() - 1
  std::int64_t document_of(std::int64_t position) const;
  std::int64_t domain_of(std::int64_t document) const;
  const std::vector<std::string>& domains() const { return domains_; }
  std::int64_t vocabulary_size() const { return vocabulary_size_; }
  /// SHA-256 of the document of the tokenizer, `Tokenizer::checksum`.
  const std::string& tokenizer() const { return tokenizer_; }
  const std::string& where() const { return where_; }

 private:
  std::string where_;
  MappedFile file_;
  std::string tokenizer_;
  std::vector<std::string> domains_;
  std::int64_t vocabulary_size_ = 0;
  std::int64_t documents_ = 0;
  const char* ends_ = nullptr;
  const char* labels_ = nullptr;
  TokenView tokens_;
};

}  // namespace moekit::text
