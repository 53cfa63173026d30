#include "moekit/tasks/language/token_store.h"

#include <algorithm>

#include "moekit/core/error.h"

namespace moekit::language {
namespace {

class MemoryTokens : public TokenStore {
 public:
  explicit MemoryTokens(std::vector<int32_t> ids) : ids_(std::move(ids)) {}
  int64_t size() const override { return static_cast<int64_t>(ids_.size()); }
  void copy(int64_t begin, std::span<int64_t> out) const override {
    MOEKIT_CHECK(begin >= 0 && begin + static_cast<int64_t>(out.size()) <= size(), "tokens ", begin,
                 "..", begin + static_cast<int64_t>(out.size()), "; there are ", size());
    std::copy_n(ids_.begin() + begin, out.size(), out.begin());
  }

 private:
  std::vector<int32_t> ids_;
};

class FileTokens : public TokenStore {
 public:
  explicit FileTokens(std::shared_ptr<const text::TokenFile> file) : file_(std::move(file)) {}
  int64_t size() const override { return file_->tokens().size(); }
  void copy(int64_t begin, std::span<int64_t> out) const override {
    file_->tokens().copy(begin, out);
  }

 private:
  std::shared_ptr<const text::TokenFile> file_;
};

}  // namespace

std::shared_ptr<const TokenStore> tokens_in_memory(std::vector<int32_t> ids) {
  return std::make_shared<MemoryTokens>(std::move(ids));
}

std::shared_ptr<const TokenStore> tokens_in_file(std::shared_ptr<const text::TokenFile> file) {
  return std::make_shared<FileTokens>(std::move(file));
}

}  // namespace moekit::language
