#include "moekit/text/byte_trie.h"

#include <algorithm>
#include <limits>

#include "moekit/core/error.h"

namespace moekit::text {

ByteTrie::ByteTrie(std::vector<std::pair<std::string, std::int32_t>> entries) {
  std::stable_sort(entries.begin(), entries.end(),
                   [](const auto& a, const auto& b) { return a.first < b.first; });
  // Level by level: a node's texts are the entries begin..end, which share `depth` bytes.
  struct Range {
    std::size_t begin, end;
  };
  std::vector<Range> ranges = {{0, entries.size()}};
  nodes_.emplace_back();
  std::size_t level_end = 1;
  for (std::size_t node = 0, depth = 0; node < nodes_.size(); ++node) {
    if (node == level_end) {
      ++depth;
      level_end = nodes_.size();
    }
    auto [begin, end] = ranges[node];
    for (; begin < end && entries[begin].first.size() == depth; ++begin) {
      if (depth > 0) nodes_[node].value = entries[begin].second;
    }
    nodes_[node].first_child = static_cast<std::uint32_t>(nodes_.size());
    while (begin < end) {
      const char byte = entries[begin].first[depth];
      std::size_t same = begin;
      while (same < end && entries[same].first[depth] == byte) ++same;
      MOEKIT_CHECK(nodes_.size() < std::numeric_limits<std::uint32_t>::max(),
                   "a trie of more than 2^32 nodes");
      nodes_.emplace_back().byte = static_cast<std::uint8_t>(byte);
      ranges.push_back({begin, same});
      ++nodes_[node].children;
      begin = same;
    }
  }
  for (std::uint32_t i = 0; i < nodes_[0].children; ++i) {
    roots_[nodes_[nodes_[0].first_child + i].byte] = nodes_[0].first_child + i;
  }
}

std::uint32_t ByteTrie::child(std::uint32_t node, unsigned char byte) const {
  const auto begin = nodes_.begin() + nodes_[node].first_child;
  const auto end = begin + nodes_[node].children;
  const auto found =
      std::lower_bound(begin, end, byte,
                       [](const Node& child, unsigned char wanted) { return child.byte < wanted; });
  if (found == end || found->byte != byte) return 0;
  return static_cast<std::uint32_t>(found - nodes_.begin());
}

}  // namespace moekit::text
