#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace moekit::text {

/// Texts by their bytes, for finding which of them begin at a place of a text. Children of a node
/// lie side by side, by their bytes.
class ByteTrie {
 public:
  ByteTrie() : ByteTrie(std::vector<std::pair<std::string, std::int32_t>>{}) {}
  /// Values from 0; an empty text is left out, and of equal ones the last counts.
  explicit ByteTrie(std::vector<std::pair<std::string, std::int32_t>> entries);

  bool empty() const { return nodes_.size() == 1; }
  /// Whether some text begins with the byte.
  bool begins_with(char byte) const { return roots_[static_cast<unsigned char>(byte)] != 0; }

  /// Calls found(std::size_t bytes, std::int32_t value) for the texts that stand at `at`, the
  /// shorter ones first.
  template <typename Found>
  void prefixes(std::string_view text, std::size_t at, Found&& found) const {
    if (at >= text.size()) return;
    std::uint32_t node = roots_[static_cast<unsigned char>(text[at])];
    for (std::size_t bytes = 1; node != 0; ++bytes) {
      if (nodes_[node].value >= 0) found(bytes, nodes_[node].value);
      if (at + bytes >= text.size()) return;
      node = child(node, static_cast<unsigned char>(text[at + bytes]));
    }
  }

 private:
  struct Node {
    std::uint32_t first_child = 0;
    std::int32_t value = -1;
    std::uint16_t children = 0;
    std::uint8_t byte = 0;
  };
  /// 0 where there is none.
  std::uint32_t child(std::uint32_t node, unsigned char byte) const;

  std::vector<Node> nodes_;  ///< the root is the first
  std::array<std::uint32_t, 256> roots_{};
};

}  // namespace moekit::text
