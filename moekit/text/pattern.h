#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "moekit/text/regex.h"

namespace moekit::text {

/// What `Split` and `Replace` look for: `{"String": "..."}`, taken as it is, or `{"Regex": "..."}`.
class Pattern {
 public:
  /// @throws FormatError unless `value` is an object of one of these, and not empty.
  Pattern(const Json& value, const Place& place);
  explicit Pattern(Regex regex) : regex_(std::move(regex)) {}

  std::optional<Span> find(std::string_view text, std::size_t from) const;

 private:
  std::string literal_;
  std::optional<Regex> regex_;
};

/// The matches of a pattern in a text, one after the other: none overlaps another, an empty one
/// does not follow another at once. `Matches found(pattern, text); while (found.next()) found.span`
class Matches {
 public:
  /// Both have to live longer. @param text  UTF-8
  Matches(const Pattern& pattern, std::string_view text) : pattern_(pattern), text_(text) {}
  bool next();
  Span span;

 private:
  const Pattern& pattern_;
  std::string_view text_;
  std::size_t from_ = 0;
  std::optional<std::size_t> last_end_;
};

/// The text with `content` in place of every match.
std::string replace_all(const Pattern& pattern, std::string_view text, std::string_view content);

}  // namespace moekit::text
