#include "moekit/text/split_pieces.h"

#include <algorithm>

namespace moekit::text {
namespace {

/// Joins a stretch to the one before it where `joined(stretch, match before it)` says so.
template <typename Joined>
std::vector<Span> join(const std::vector<Stretch>& stretches, Joined&& joined) {
  std::vector<Span> parts;
  bool match_before = false;
  for (const Stretch& stretch : stretches) {
    if (!parts.empty() && joined(stretch.match, match_before)) {
      // The order may be from the end.
      parts.back() = {std::min(parts.back().begin, stretch.span.begin),
                      std::max(parts.back().end, stretch.span.end)};
    } else {
      parts.push_back(stretch.span);
    }
    match_before = stretch.match;
  }
  return parts;
}

bool match_beside_none(bool match, bool match_before) { return match && !match_before; }

}  // namespace

std::vector<Span> join_stretches(const std::vector<Stretch>& stretches, SplitBehavior behavior) {
  switch (behavior) {
    case SplitBehavior::kRemoved: {
      std::vector<Span> parts;
      for (const Stretch& stretch : stretches) {
        if (!stretch.match) parts.push_back(stretch.span);
      }
      return parts;
    }
    case SplitBehavior::kMergedWithPrevious:
      return join(stretches, match_beside_none);
    case SplitBehavior::kMergedWithNext: {
      auto parts = join({stretches.rbegin(), stretches.rend()}, match_beside_none);
      std::reverse(parts.begin(), parts.end());
      return parts;
    }
    case SplitBehavior::kContiguous:
      return join(stretches, [](bool match, bool match_before) { return match == match_before; });
    case SplitBehavior::kIsolated:
      break;
  }
  return join(stretches, [](bool, bool) { return false; });
}

}  // namespace moekit::text
