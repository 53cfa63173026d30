#include "moekit/text/word_cache.h"

#include <cstring>

namespace moekit::text {

std::uint64_t WordCache::hash_of(std::string_view word) {
  constexpr std::uint64_t kMultiplier = 0x9E3779B97F4A7C15;
  std::uint64_t hash = word.size();
  const auto mix = [&](std::uint64_t part) {
    hash = (hash ^ part) * kMultiplier;
    hash ^= hash >> 32;
  };
  while (word.size() >= 8) {
    std::uint64_t part = 0;
    std::memcpy(&part, word.data(), 8);
    mix(part);
    word.remove_prefix(8);
  }
  std::uint64_t part = 0;
  for (const char c : word) part = part << 8 | static_cast<unsigned char>(c);
  mix(part);
  return hash;
}

WordCache::Slot& WordCache::find(std::string_view word, std::uint64_t hash) {
  const std::size_t mask = slots_.size() - 1;
  for (std::size_t at = hash & mask;; at = (at + 1) & mask) {
    Slot& slot = slots_[at];
    if (slot.bytes == 0) return slot;
    if (slot.hash == hash && slot.bytes == word.size() &&
        std::memcmp(records_.data() + slot.record + slot.ids, word.data(), word.size()) == 0) {
      return slot;
    }
  }
}

void WordCache::add(Slot& slot, std::string_view word, std::uint64_t hash, const std::int32_t* ids,
                    std::size_t count) {
  const std::size_t spelling = (word.size() + 3) / 4;
  if (words_ == kMaxWords || records_.size() + count + spelling > kMaxRecords) {
    slots_.assign(slots_.size(), Slot{});
    records_.clear();
    words_ = 0;
    return;  // the word comes again if it is a common one
  }
  slot = {hash, static_cast<std::uint32_t>(records_.size()),
          static_cast<std::uint16_t>(word.size()), static_cast<std::uint16_t>(count)};
  records_.insert(records_.end(), ids, ids + count);
  records_.resize(records_.size() + spelling);
  std::memcpy(records_.data() + slot.record + count, word.data(), word.size());
  if (++words_ * 2 > slots_.size() && words_ < kMaxWords) grow();
}

void WordCache::grow() {
  std::vector<Slot> before(slots_.size() * 4);
  before.swap(slots_);
  const std::size_t mask = slots_.size() - 1;
  for (const Slot& slot : before) {
    if (slot.bytes == 0) continue;
    std::size_t at = slot.hash & mask;
    while (slots_[at].bytes != 0) at = (at + 1) & mask;
    slots_[at] = slot;
  }
}

}  // namespace moekit::text
