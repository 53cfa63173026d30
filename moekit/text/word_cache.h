#pragma once

#include <cstdint>
#include <memory>
#include <mutex>
#include <string_view>
#include <vector>

namespace moekit::text {

/// Ids of words seen before. A text has few different words, most of them short, and finding one
/// again takes a tenth of the time of encoding it. Holds at most `kMaxBytes`; when it is full it
/// begins anew.
class WordCache {
 public:
  static constexpr std::size_t kMaxWordBytes = 256;  ///< longer ones come once
  static constexpr std::size_t kMaxWords = 1 << 16;
  static constexpr std::size_t kMaxRecords = 1 << 20;  ///< of 4 bytes each
  /// A table that may be four times as large as what is in it, records that may be twice as large.
  static constexpr std::size_t kMaxBytes = 4 * kMaxWords * 16 + 2 * kMaxRecords * 4;

  /// Appends a word's ids to `ids`, and calls encode(word, ids) for a word it does not know.
  template <typename Encode>
  void append(std::string_view word, std::vector<std::int32_t>& ids, Encode&& encode) {
    if (word.size() > kMaxWordBytes) return encode(word, ids);
    const std::uint64_t hash = hash_of(word);
    Slot& slot = find(word, hash);
    if (slot.bytes != 0) {
      const std::int32_t* first = records_.data() + slot.record;
      ids.insert(ids.end(), first, first + slot.ids);
      return;
    }
    const std::size_t begin = ids.size();
    encode(word, ids);
    add(slot, word, hash, ids.data() + begin, ids.size() - begin);
  }

  std::size_t bytes() const {
    return slots_.size() * sizeof(Slot) + records_.capacity() * sizeof(std::int32_t);
  }

 private:
  struct Slot {
    std::uint64_t hash = 0;
    std::uint32_t record = 0;  ///< where the ids begin; the word's bytes lie behind them
    std::uint16_t bytes = 0;   ///< of the word; 0: the slot is free
    std::uint16_t ids = 0;
  };
  static_assert(sizeof(Slot) == 16);

  static std::uint64_t hash_of(std::string_view word);
  /// Of the word, or the free one where it would be.
  Slot& find(std::string_view word, std::uint64_t hash);
  void add(Slot& slot, std::string_view word, std::uint64_t hash, const std::int32_t* ids,
           std::size_t count);
  void grow();

  std::vector<Slot> slots_ = std::vector<Slot>(1 << 10);
  std::vector<std::int32_t> records_;
  std::size_t words_ = 0;
};

/// Caches that no call uses at the moment: a call takes one and gives it back.
class CachePool {
 public:
  std::unique_ptr<WordCache> take() {
    const std::lock_guard lock(mutex_);
    if (idle_.empty()) return std::make_unique<WordCache>();
    auto cache = std::move(idle_.back());
    idle_.pop_back();
    return cache;
  }
  void give_back(std::unique_ptr<WordCache> cache) {
    const std::lock_guard lock(mutex_);
    idle_.push_back(std::move(cache));
  }

 private:
  std::mutex mutex_;
  std::vector<std::unique_ptr<WordCache>> idle_;
};

}  // namespace moekit::text
