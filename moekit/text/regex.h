#pragma once

#include <cstddef>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "moekit/text/place.h"

namespace moekit::text {

/// Bytes begin..end of a text.
struct Span {
  std::size_t begin = 0;
  std::size_t end = 0;
};

/// A regular expression as tokenizer.json has them, in the syntax of Oniguruma, on PCRE2 with
/// Unicode's classes. What the two libraries read differently is translated (\s \S \w \W \b \B \h
/// \H, classes in brackets, \uHHHH, {,n}, (?m), ^ and $ at every line) or refused (classes within
/// classes, && in them, + behind an interval, \K, \Q).
///
/// Patterns come from files nobody vouches for: a match that takes too many steps or too much
/// memory is given up.
class Regex {
 public:
  /// @param place  of the pattern, for messages
  /// @throws FormatError naming file, key, pattern and what is wrong with it.
  Regex(std::string_view pattern, Place place);
  Regex(Regex&&) noexcept;
  Regex& operator=(Regex&&) noexcept;
  ~Regex();

  /// The first match that begins at `from` or behind it; may be empty.
  /// @param text  UTF-8; `from` is where a character begins, or the end
  /// @throws FormatError naming file, key and pattern where the match is given up.
  std::optional<Span> find(std::string_view text, std::size_t from) const;

 private:
  struct Code;
  std::unique_ptr<Code> code_;
};

/// Oniguruma's pattern as PCRE2 reads it. @throws FormatError for what PCRE2 cannot say
std::string to_pcre2(std::string_view pattern, const Place& place);

}  // namespace moekit::text
