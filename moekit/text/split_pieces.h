#pragma once

#include <array>
#include <utility>
#include <vector>

#include "moekit/core/enum_names.h"
#include "moekit/text/pre_tokenizer.h"
#include "moekit/text/regex.h"

namespace moekit::text {

/// What becomes of the matches that a text is divided at.
enum class SplitBehavior {
  kRemoved,
  kIsolated,            ///< each is a piece of its own
  kMergedWithPrevious,  ///< the end of the piece before it
  kMergedWithNext,      ///< the beginning of the piece behind it
  kContiguous,          ///< neighbouring ones are one piece
};

/// A stretch of a text that matches, or lies between matches.
struct Stretch {
  Span span;
  bool match = false;
};

/// The pieces that stretches, which cover the text in order, make.
std::vector<Span> join_stretches(const std::vector<Stretch>& stretches, SplitBehavior behavior);

/// Gives the part of a piece on, unless it is empty.
inline void give(const Piece& piece, Span part, PieceSink& sink) {
  if (part.begin == part.end) return;
  sink.take({piece.text.substr(part.begin, part.end - part.begin), piece.first && part.begin == 0});
}

/// Divides a piece at what `next_match` finds. @param next_match  called as next_match(Span& match)
/// until it returns false; matches come in order and do not overlap. @param invert  what lies
/// between the matches counts as match
template <typename NextMatch>
void split_piece(const Piece& piece, SplitBehavior behavior, bool invert, PieceSink& sink,
                 NextMatch&& next_match) {
  std::size_t end = 0;
  Span match;
  if (behavior == SplitBehavior::kIsolated) {  // needs no list: the way of byte-level vocabularies
    while (next_match(match)) {
      give(piece, {end, match.begin}, sink);
      give(piece, match, sink);
      end = match.end;
    }
    return give(piece, {end, piece.text.size()}, sink);
  }
  std::vector<Stretch> stretches;
  while (next_match(match)) {
    if (match.begin != end) stretches.push_back({{end, match.begin}, invert});
    stretches.push_back({match, !invert});
    end = match.end;
  }
  if (end != piece.text.size()) stretches.push_back({{end, piece.text.size()}, invert});
  for (const Span part : join_stretches(stretches, behavior)) give(piece, part, sink);
}

}  // namespace moekit::text

namespace moekit {
template <>
struct EnumNames<text::SplitBehavior> {
  static constexpr std::array<std::pair<text::SplitBehavior, std::string_view>, 5> kTable{
      {{text::SplitBehavior::kRemoved, "Removed"},
       {text::SplitBehavior::kIsolated, "Isolated"},
       {text::SplitBehavior::kMergedWithPrevious, "MergedWithPrevious"},
       {text::SplitBehavior::kMergedWithNext, "MergedWithNext"},
       {text::SplitBehavior::kContiguous, "Contiguous"}}};
};
}  // namespace moekit
