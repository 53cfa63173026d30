#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace moekit {

/// Which of the known words a mistyped one probably was: the nearest by letters inserted, left out,
/// replaced or swapped with their neighbour. Of a word one letter in three may be wrong, at most
/// three in all; further apart is no typing error.
/// @return empty when none is that near; the first of several equally near ones
std::string nearest_word(std::string_view word, const std::vector<std::string>& known);

/// "; did you mean train?", or nothing: `nearest_word` as the end of a message.
std::string did_you_mean(std::string_view word, const std::vector<std::string>& known);

/// A text as one word of a POSIX shell, quoted where it has to be: for commands that a message
/// proposes.
std::string shell_quoted(std::string_view text);

}  // namespace moekit
