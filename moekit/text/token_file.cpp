#include "moekit/text/token_file.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <bit>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <set>

#include "moekit/core/error.h"
#include "moekit/core/schema.h"

namespace moekit::text {
namespace fs = std::filesystem;
namespace {

static_assert(std::endian::native == std::endian::little, "the format is little-endian");

constexpr const char* kFormat = "moekit-tokens";
constexpr std::uint64_t kMaxHeaderBytes = 1 << 24;
constexpr std::int64_t kMostIn16Bits = 1 << 16;
constexpr std::int64_t kEndBytes = 8;
constexpr std::int64_t kLabelBytes = 4;

struct Header {
  std::string format = kFormat;
  std::int64_t version = kTokenFileVersion;
  std::string dtype;
  std::int64_t vocabulary_size = 0;
  std::string tokenizer;
  std::int64_t tokens = 0;
  std::int64_t documents = 0;
  std::vector<std::string> domains;

  template <typename Field>
  void visit(Field&& field) {
    field("format", format, "");
    field("version", version, "");
    field("dtype", dtype, "");
    field("vocabulary_size", vocabulary_size, "");
    field("tokenizer", tokenizer, "");
    field("tokens", tokens, "");
    field("documents", documents, "");
    field("domains", domains, "");
  }
};

const char* dtype_for(std::int64_t vocabulary_size) {
  return vocabulary_size <= kMostIn16Bits ? "uint16" : "uint32";
}

template <typename T>
T load(const char* data, std::int64_t index) {
  T value{};
  std::memcpy(&value, data + index * static_cast<std::int64_t>(sizeof(T)), sizeof(T));
  return value;
}

}  // namespace

/// Bytes put aside in a file that has no name, so that it is gone whatever happens.
class TokenFileWriter::Spool {
 public:
  explicit Spool(const fs::path& beside) : name_(beside.string() + ".XXXXXX.tmp") {
    fd_ = ::mkostemps(name_.data(), 4, O_CLOEXEC);
    if (fd_ < 0) fail("create");
    ::unlink(name_.c_str());
  }
  Spool(const Spool&) = delete;
  Spool& operator=(const Spool&) = delete;
  ~Spool() {
    if (fd_ >= 0) ::close(fd_);
  }

  template <typename T>
  void append(T value) {
    gathered_.append(reinterpret_cast<const char*>(&value), sizeof(value));
    if (gathered_.size() >= kGather) flush();
  }

  void copy_to(AtomicFile& file) {
    flush();
    if (::lseek(fd_, 0, SEEK_SET) != 0) fail("read");
    std::string bytes(kGather, '\0');
    for (;;) {
      const ssize_t got = ::read(fd_, bytes.data(), bytes.size());
      if (got < 0 && errno == EINTR) continue;
      if (got < 0) fail("read");
      if (got == 0) return;
      file.append(std::string_view(bytes).substr(0, static_cast<std::size_t>(got)));
    }
  }

 private:
  static constexpr std::size_t kGather = 1 << 18;

  void flush() {
    std::string_view rest = gathered_;
    while (!rest.empty()) {
      const ssize_t written = ::write(fd_, rest.data(), rest.size());
      if (written < 0 && errno == EINTR) continue;
      if (written < 0) fail("write");
      rest.remove_prefix(static_cast<std::size_t>(written));
    }
    gathered_.clear();
  }
  [[noreturn]] void fail(const char* what) const {
    throw IoError(concat("cannot ", what, " ", name_, ": ", std::strerror(errno)));
  }

  std::string name_;
  std::string gathered_;
  int fd_ = -1;
};

TokenFileWriter::TokenFileWriter(const fs::path& path, const Tokenizer& tokenizer,
                                 std::vector<std::string> domains)
    : path_(path),
      vocabulary_size_(tokenizer.vocabulary_size()),
      tokenizer_(tokenizer.checksum()),
      domains_(std::move(domains)) {
  MOEKIT_CHECK(!domains_.empty(), path.string(), ": domains must not be empty");
  std::set<std::string_view> seen;
  for (const auto& name : domains_) {
    MOEKIT_CHECK(is_utf8(name) && !name.empty(), path.string(), ": domains: ", in_quotes(name),
                 " must be UTF-8 and not empty");
    MOEKIT_CHECK(seen.insert(name).second, path.string(), ": domains: ", in_quotes(name),
                 " stands there twice");
  }
  ids_ = std::make_unique<Spool>(path);
  ends_ = std::make_unique<Spool>(path);
  labels_ = std::make_unique<Spool>(path);
}

TokenFileWriter::~TokenFileWriter() = default;

void TokenFileWriter::append(std::span<const std::int32_t> ids) {
  for (const std::int32_t id : ids) {
    MOEKIT_CHECK(id >= 0 && id < vocabulary_size_, path_.string(), ": id ", id,
                 " is beyond the vocabulary of ", vocabulary_size_);
  }
  const bool narrow = vocabulary_size_ <= kMostIn16Bits;
  for (const std::int32_t id : ids) {
    if (narrow) {
      ids_->append(static_cast<std::uint16_t>(id));
    } else {
      ids_->append(static_cast<std::uint32_t>(id));
    }
  }
  tokens_ += static_cast<std::int64_t>(ids.size());
}

void TokenFileWriter::end_document(std::size_t domain) {
  MOEKIT_CHECK(domain < domains_.size(), path_.string(), ": domain ", domain, "; there are ",
               domains_.size());
  ends_->append(static_cast<std::uint64_t>(tokens_));
  labels_->append(static_cast<std::uint32_t>(domain));
  last_end_ = tokens_;
  ++documents_;
}

void TokenFileWriter::commit() {
  MOEKIT_CHECK(last_end_ == tokens_, path_.string(), ": the last document has not ended");
  Header header;
  header.dtype = dtype_for(vocabulary_size_);
  header.vocabulary_size = vocabulary_size_;
  header.tokenizer = tokenizer_;
  header.tokens = tokens_;
  header.documents = documents_;
  header.domains = domains_;
  std::string text = dump_text(to_json(header));
  text.resize((text.size() + 7) / 8 * 8, ' ');
  MOEKIT_CHECK(text.size() <= kMaxHeaderBytes, path_.string(), ": a header of ", text.size(),
               " bytes; at most ", kMaxHeaderBytes, " are allowed");
  const std::uint64_t length = text.size();
  AtomicFile file(path_);
  file.append({reinterpret_cast<const char*>(&length), sizeof(length)});
  file.append(text);
  ends_->copy_to(file);
  labels_->copy_to(file);
  ids_->copy_to(file);
  file.commit();
}

TokenFile::TokenFile(const fs::path& path) : where_(path.string()), file_(path) {
  MOEKIT_CHECK_FORMAT(file_.size() >= 8, where_, ": ", file_.size(),
                      " bytes are too short for a token file");
  const auto length = load<std::uint64_t>(file_.data(), 0);
  MOEKIT_CHECK_FORMAT(length <= kMaxHeaderBytes && length <= file_.size() - 8 && length % 8 == 0,
                      where_, ": a header of ", length, " bytes does not fit the file of ",
                      file_.size());
  Header header;
  bind_state(parse_json({file_.data() + 8, length}, where_), where_, header);
  MOEKIT_CHECK_FORMAT(header.format == kFormat && header.version == kTokenFileVersion, where_,
                      ": format ", in_quotes(header.format), ", version ", header.version,
                      "; wanted ", kFormat, ", version ", kTokenFileVersion);
  MOEKIT_CHECK_FORMAT(header.vocabulary_size >= 1 && header.vocabulary_size <= INT32_MAX, where_,
                      ": vocabulary_size must be from 1 to ", INT32_MAX, "; got ",
                      header.vocabulary_size);
  MOEKIT_CHECK_FORMAT(header.dtype == dtype_for(header.vocabulary_size), where_, ": dtype ",
                      in_quotes(header.dtype), " of a vocabulary of ", header.vocabulary_size);
  MOEKIT_CHECK_FORMAT(!header.domains.empty(), where_, ": domains must not be empty");
  const char* const begin = file_.data() + 8 + length;
  const auto bytes = static_cast<std::int64_t>(file_.size() - 8 - length);
  const bool wide = header.dtype == "uint32";
  const std::int64_t id_bytes = wide ? 4 : 2;
  // Divided rather than multiplied: the header may hold any number.
  const bool fits =
      header.documents <= bytes / (kEndBytes + kLabelBytes) && header.tokens <= bytes / id_bytes &&
      header.documents * (kEndBytes + kLabelBytes) + header.tokens * id_bytes == bytes;
  MOEKIT_CHECK_FORMAT(fits, where_, ": ", header.documents, " documents of ", header.tokens,
                      " tokens do not make up the ", bytes, " bytes behind the header");
  tokenizer_ = std::move(header.tokenizer);
  domains_ = std::move(header.domains);
  vocabulary_size_ = header.vocabulary_size;
  documents_ = header.documents;
  ends_ = begin;
  labels_ = begin + documents_ * kEndBytes;
  tokens_.file_ = this;
  tokens_.data_ = labels_ + documents_ * kLabelBytes;
  tokens_.size_ = header.tokens;
  tokens_.wide_ = wide;
  std::uint64_t last = 0;
  for (std::int64_t i = 0; i < documents_; ++i) {
    const auto end = load<std::uint64_t>(ends_, i);
    MOEKIT_CHECK_FORMAT(end >= last && end <= static_cast<std::uint64_t>(tokens_.size_), where_,
                        ": document ", i, " ends at ", end, ", the one before it at ", last,
                        ", of ", tokens_.size_, " tokens");
    last = end;
    const auto label = load<std::uint32_t>(labels_, i);
    MOEKIT_CHECK_FORMAT(label < domains_.size(), where_, ": document ", i, " is of domain ", label,
                        "; there are ", domains_.size());
  }
  MOEKIT_CHECK_FORMAT(last == static_cast<std::uint64_t>(tokens_.size_), where_,
                      ": the last document ends at ", last, " of ", tokens_.size_, " tokens");
}

std::int64_t TokenFile::end_of(std::int64_t document) const {
  MOEKIT_CHECK(document >= 0 && document < documents_, where_, ": document ", document,
               "; there are ", documents_);
  return static_cast<std::int64_t>(load<std::uint64_t>(ends_, document));
}

std::int64_t TokenFile::begin_of(std::int64_t document) const {
  end_of(document);  // in range
  return document == 0 ? 0 : end_of(document - 1);
}

std::int64_t TokenFile::document_of(std::int64_t position) const {
  MOEKIT_CHECK(position >= 0 && position < tokens_.size_, where_, ": token ", position,
               "; there are ", tokens_.size_);
  // The first that ends behind it.
  std::int64_t least = 0;
  std::int64_t most = documents_ - 1;
  while (least < most) {
    const std::int64_t middle = least + (most - least) / 2;
    if (end_of(middle) > position) {
      most = middle;
    } else {
      least = middle + 1;
    }
  }
  return least;
}

std::int64_t TokenFile::domain_of(std::int64_t document) const {
  end_of(document);  // in range
  return load<std::uint32_t>(labels_, document);
}

template <typename Id>
void TokenView::copy_as(std::int64_t begin, std::span<Id> out) const {
  const auto count = static_cast<std::int64_t>(out.size());
  MOEKIT_CHECK(begin >= 0 && count <= size_ && begin <= size_ - count, file_->where(), ": tokens ",
               begin, " to ", begin + count, "; there are ", size_);
  const auto limit = static_cast<std::uint32_t>(file_->vocabulary_size());
  for (std::int64_t i = 0; i < count; ++i) {
    const std::uint32_t id =
        wide_ ? load<std::uint32_t>(data_, begin + i) : load<std::uint16_t>(data_, begin + i);
    MOEKIT_CHECK_FORMAT(id < limit, file_->where(), ": token ", begin + i, " is ", id,
                        ", beyond the vocabulary of ", limit);
    out[static_cast<std::size_t>(i)] = static_cast<Id>(id);
  }
}

void TokenView::copy(std::int64_t begin, std::span<std::int32_t> out) const { copy_as(begin, out); }
void TokenView::copy(std::int64_t begin, std::span<std::int64_t> out) const { copy_as(begin, out); }

std::int32_t TokenView::operator[](std::int64_t i) const {
  std::int32_t id = 0;
  copy_as(i, std::span(&id, 1));
  return id;
}

}  // namespace moekit::text
