#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "moekit/text/token_file.h"

namespace moekit::language {

/// Ids of a domain's documents one after the other, in memory or in a file.
class TokenStore {
 public:
  virtual ~TokenStore() = default;
  virtual int64_t size() const = 0;
  /// Ids from `begin` on, as many as `out` takes. @throws as text::TokenView, of a damaged file
  virtual void copy(int64_t begin, std::span<int64_t> out) const = 0;
};

std::shared_ptr<const TokenStore> tokens_in_memory(std::vector<int32_t> ids);
/// Read when they are touched.
std::shared_ptr<const TokenStore> tokens_in_file(std::shared_ptr<const text::TokenFile> file);

}  // namespace moekit::language
