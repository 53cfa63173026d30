#pragma once

#include <cstdint>
#include <deque>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "moekit/text/place.h"

namespace moekit::text {

/// Ids are below: a file could otherwise name one id of 2^31 and have memory for all below it
/// taken.
inline constexpr std::int64_t kMaxVocabulary = std::int64_t{1} << 22;

/// Tokens as a document spells them, and their ids. Ids may have holes.
class Vocabulary {
 public:
  Vocabulary() = default;
  Vocabulary(Vocabulary&&) noexcept = default;  // the views into contents_ stay
  Vocabulary& operator=(Vocabulary&&) noexcept = default;

  /// @param place  of the token, for messages
  /// @throws FormatError for a content or an id that another token has, and an id that is not in
  ///         0..kMaxVocabulary-1.
  void add(std::string_view content, std::int64_t id, const Place& place);

  /// One past the highest id.
  std::int32_t size() const { return static_cast<std::int32_t>(index_.size()); }
  std::size_t count() const { return contents_.size(); }
  std::optional<std::int32_t> find(std::string_view content) const;
  /// Null where no token has the id.
  const std::string* content(std::int64_t id) const;

 private:
  std::deque<std::string> contents_;                        ///< in the order of add()
  std::vector<std::int32_t> index_;                         ///< of an id, in contents_; or -1
  std::unordered_map<std::string_view, std::int32_t> ids_;  ///< keys lie in contents_
};

}  // namespace moekit::text
