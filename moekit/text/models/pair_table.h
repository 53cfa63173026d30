#pragma once

#include <cstdint>
#include <vector>

namespace moekit::text {

/// What becomes of a pair of symbols.
struct Merge {
  static constexpr std::uint32_t kNever = ~std::uint32_t{0};
  std::uint32_t rank = kNever;  ///< lower ones come first
  std::int32_t id = -1;
};

/// Merges by their pair: a table with open addressing, at most half full.
class PairTable {
 public:
  explicit PairTable(std::size_t count = 0) {
    std::size_t slots = 16;
    while (slots < 2 * count) slots *= 2;
    slots_.resize(slots);
    shift_ = 64;
    for (; slots > 1; slots /= 2) --shift_;
  }

  /// No more different pairs than announced; of a pair given twice the later merge counts.
  void set(std::int32_t left, std::int32_t right, Merge merge) {
    const std::uint64_t key = key_of(left, right);
    Slot* slot = &slots_[place(key)];
    *slot = {key, merge};
  }

  /// `Merge::kNever` where there is none.
  Merge find(std::int32_t left, std::int32_t right) const {
    return slots_[place(key_of(left, right))].merge;
  }

 private:
  static constexpr std::uint64_t kFree = ~std::uint64_t{0};  // ids are not negative
  struct Slot {
    std::uint64_t key = kFree;
    Merge merge;
  };
  static std::uint64_t key_of(std::int32_t left, std::int32_t right) {
    return std::uint64_t{static_cast<std::uint32_t>(left)} << 32 |
           static_cast<std::uint32_t>(right);
  }
  /// Of the key, or the free slot where it would be.
  std::size_t place(std::uint64_t key) const {
    constexpr std::uint64_t kGoldenRatio = 0x9E3779B97F4A7C15;
    std::size_t at = static_cast<std::size_t>(key * kGoldenRatio >> shift_);
    while (slots_[at].key != key && slots_[at].key != kFree) at = (at + 1) & (slots_.size() - 1);
    return at;
  }

  std::vector<Slot> slots_;
  int shift_ = 0;
};

}  // namespace moekit::text
