#include "moekit/text/word_cache.h"

#include <gtest/gtest.h>

#include <string>

namespace moekit::text {
namespace {

TEST(WordCache, GivesWhatWasEncodedAndStaysWithinItsBound) {
  WordCache cache;
  std::vector<std::int32_t> ids;
  int encoded = 0;
  const auto encode = [&](std::string_view word, std::vector<std::int32_t>& out) {
    ++encoded;
    for (const char c : word) out.push_back(c);
  };
  cache.append("ab", ids, encode);
  cache.append("ab", ids, encode);
  cache.append("ba", ids, encode);
  EXPECT_EQ(ids, (std::vector<std::int32_t>{'a', 'b', 'a', 'b', 'b', 'a'}));
  EXPECT_EQ(encoded, 2);
  const std::string longer(WordCache::kMaxWordBytes + 1, 'x');
  cache.append(longer, ids, encode);
  cache.append(longer, ids, encode);
  EXPECT_EQ(encoded, 4);
  // More words than it takes: it begins anew, and what it gives stays right.
  for (int i = 0; i < 300'000; ++i) {
    const std::string word = "word" + std::to_string(i);
    ids.clear();
    cache.append(word, ids, encode);
    ASSERT_EQ(std::string(ids.begin(), ids.end()), word);
    ASSERT_LE(cache.bytes(), WordCache::kMaxBytes);
  }
}

}  // namespace
}  // namespace moekit::text
