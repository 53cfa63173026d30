#include "moekit/text/bpe_trainer.h"

#include <algorithm>
#include <queue>
#include <set>

#include "moekit/core/error.h"
#include "moekit/text/byte_alphabet.h"
#include "moekit/text/documents.h"
#include "moekit/text/part.h"
#include "moekit/text/utf8.h"

namespace moekit::text {
namespace {

/// The patterns of Meta's Llama 3 and of Qwen 2, as their tokenizer.json have them.
constexpr const char* kLlama3Pattern =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";
constexpr const char* kQwen2Pattern =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";

Json split_part(const char* pattern) {
  const Json split = {{"type", "Split"},
                      {"pattern", {{"Regex", pattern}}},
                      {"behavior", "Isolated"},
                      {"invert", false}};
  return {{"type", "Sequence"}, {"pretokenizers", Json::array({split, byte_level_part(false)})}};
}

/// Takes words to count them.
struct WordCounter : PieceSink {
  explicit WordCounter(std::unordered_map<std::string, std::int64_t>& out) : counts(out) {}
  void take(Piece piece) override { ++counts[std::string(piece.text)]; }
  std::unordered_map<std::string, std::int64_t>& counts;
};

/// The words as symbols, and how often which pairs of neighbours stand in them.
class PairCounts {
 public:
  struct Pair {
    std::int32_t left;
    std::int32_t right;
  };

  explicit PairCounts(const std::unordered_map<std::string, std::int64_t>& words) {
    for (const auto& [text, count] : words) {
      for (std::size_t i = 0; i < text.size(); ++i) {
        const std::size_t at = symbols_.size();
        MOEKIT_CHECK(at < kNone, "bpe trainer: more than 2^32 - 2 bytes in different words");
        const bool last = i + 1 == text.size();
        symbols_.push_back(static_cast<unsigned char>(text[i]));
        counts_.push_back(count);
        before_.push_back(i == 0 ? kNone : static_cast<std::uint32_t>(at - 1));
        behind_.push_back(last ? kNone : static_cast<std::uint32_t>(at + 1));
        if (i > 0) add(symbols_[at - 1], symbols_[at], before_[at]);
      }
    }
    for (const auto& [key, info] : pairs_) queue_.push({info.count, key});
  }

  /// The most frequent pair; false where there is none.
  bool most_frequent(Pair& pair) {
    while (!queue_.empty()) {
      const Candidate top = queue_.top();
      queue_.pop();
      const std::int64_t count = pairs_.at(top.key).count;
      if (count == top.count) {
        pair = {static_cast<std::int32_t>(top.key >> 32), static_cast<std::int32_t>(top.key)};
        return true;
      }
      // Has become rarer since: its place is further behind.
      if (count > 0) queue_.push({count, top.key});
    }
    return false;
  }

  /// Replaces a pair by one symbol wherever it stands, in each word from the left.
  void merge(Pair pair, std::int32_t symbol) {
    PairInfo& merged = pairs_.at(key_of(pair.left, pair.right));
    std::vector<std::uint32_t> places = std::move(merged.places);
    std::sort(places.begin(), places.end());
    std::set<std::uint64_t> grown;
    for (const std::uint32_t at : places) {
      const std::uint32_t right = behind_[at];
      // One of its symbols may have become part of another since it was noted.
      if (symbols_[at] != pair.left || right == kNone || symbols_[right] != pair.right) continue;
      const std::uint32_t before = before_[at];
      const std::uint32_t behind = behind_[right];
      merged.count -= counts_[at];
      if (before != kNone) {
        pairs_.at(key_of(symbols_[before], pair.left)).count -= counts_[at];
        grown.insert(add(symbols_[before], symbol, before));
      }
      if (behind != kNone) {
        pairs_.at(key_of(pair.right, symbols_[behind])).count -= counts_[at];
        grown.insert(add(symbol, symbols_[behind], at));
        before_[behind] = at;
      }
      symbols_[at] = symbol;
      symbols_[right] = kGone;
      behind_[at] = behind;
    }
    for (const std::uint64_t key : grown) queue_.push({pairs_.at(key).count, key});
  }

 private:
  static constexpr std::uint32_t kNone = ~std::uint32_t{0};
  static constexpr std::int32_t kGone = -1;

  struct PairInfo {
    std::int64_t count = 0;
    std::vector<std::uint32_t> places;  ///< of left symbols: where it stands, or once stood
  };
  struct Candidate {
    std::int64_t count;
    std::uint64_t key;
    /// Whether another one comes before it.
    bool operator<(const Candidate& other) const {
      return count != other.count ? count < other.count : key > other.key;
    }
  };

  static std::uint64_t key_of(std::int32_t left, std::int32_t right) {
    return std::uint64_t{static_cast<std::uint32_t>(left)} << 32 |
           static_cast<std::uint32_t>(right);
  }
  std::uint64_t add(std::int32_t left, std::int32_t right, std::uint32_t at) {
    const std::uint64_t key = key_of(left, right);
    PairInfo& info = pairs_[key];
    info.count += counts_[at];
    info.places.push_back(at);
    return key;
  }

  // All words one behind the other; a symbol that was merged leaves its place to the one before it.
  std::vector<std::int32_t> symbols_;
  std::vector<std::int64_t> counts_;   ///< of the word a symbol is in
  std::vector<std::uint32_t> before_;  ///< neighbours within the word
  std::vector<std::uint32_t> behind_;
  std::unordered_map<std::uint64_t, PairInfo> pairs_;
  std::priority_queue<Candidate> queue_;  ///< each pair with at least its count
};

}  // namespace

BpeTrainer::BpeTrainer(BpeTrainerOptions options) : options_(std::move(options)) {
  check_values(options_, "bpe trainer");
  std::set<std::string_view> seen;
  for (const auto& token : options_.special_tokens) {
    MOEKIT_CHECK(!token.empty() && is_utf8(token), "bpe trainer.special_tokens: ", in_quotes(token),
                 " must be UTF-8 and not empty");
    MOEKIT_CHECK(seen.insert(token).second, "bpe trainer.special_tokens: ", in_quotes(token),
                 " stands there twice");
  }
  const auto least = static_cast<std::int64_t>(256 + options_.special_tokens.size());
  MOEKIT_CHECK(options_.vocabulary_size >= least, "bpe trainer.vocabulary_size must be at least ",
               least, ", 256 bytes and the special tokens; got ", options_.vocabulary_size);
  switch (options_.words) {
    case WordPattern::kGpt2:
      pre_tokenizer_part_ = byte_level_part(true);
      break;
    case WordPattern::kLlama3:
      pre_tokenizer_part_ = split_part(kLlama3Pattern);
      break;
    case WordPattern::kQwen2:
      pre_tokenizer_part_ = split_part(kQwen2Pattern);
      normalizer_part_ = {{"type", "NFC"}};
      break;
  }
  const Place place{"bpe trainer", ""};
  pre_tokenizer_ = make_part<PreTokenizerKinds>(pre_tokenizer_part_,
                                                PreTokenizerSite{place.key("pre_tokenizer")});
  if (!normalizer_part_.is_null()) {
    normalizer_ =
        make_part<NormalizerKinds>(normalizer_part_, NormalizerSite{place.key("normalizer")});
  }
}

void BpeTrainer::add(std::string_view text) {
  WordCounter counter(counts_);
  for_each_run(text, [&](std::string_view run, bool valid, std::size_t) {
    if (!valid) return counter.take({run, false});
    std::string changed;
    if (normalizer_) {
      changed = run;
      normalizer_->apply(changed);
      run = changed;
    }
    if (!run.empty()) pre_tokenizer_->split({run, false}, counter);
  });
}

Json BpeTrainer::train() const {
  const auto learned =
      options_.vocabulary_size - static_cast<std::int64_t>(options_.special_tokens.size());
  std::vector<std::string> bytes;  // of ids
  std::unordered_map<std::string, std::int32_t> ids;
  const auto add_token = [&](std::string spelt) {
    const auto [at, added] = ids.emplace(std::move(spelt), static_cast<std::int32_t>(bytes.size()));
    if (added) bytes.push_back(at->first);
    return at->second;  // two pairs may give one token
  };
  for (int byte = 0; byte < 256; ++byte) add_token(std::string(1, static_cast<char>(byte)));
  ByteLevelParts parts;
  PairCounts pairs(counts_);
  while (static_cast<std::int64_t>(bytes.size()) < learned) {
    PairCounts::Pair pair{};
    MOEKIT_CHECK(pairs.most_frequent(pair), "bpe trainer: the texts give ", bytes.size(),
                 " tokens, and vocabulary_size = ", options_.vocabulary_size, " wants ", learned,
                 " beside special tokens");
    const std::string left = bytes[static_cast<std::size_t>(pair.left)];
    const std::string right = bytes[static_cast<std::size_t>(pair.right)];
    pairs.merge(pair, add_token(left + right));
    parts.merges.push_back(Json::array({spell_bytes(left), spell_bytes(right)}));
  }
  for (std::size_t id = 0; id < bytes.size(); ++id) {
    append_key(parts.vocab, spell_bytes(bytes[id]), id);
  }
  for (std::size_t i = 0; i < options_.special_tokens.size(); ++i) {
    const auto& token = options_.special_tokens[i];
    const auto spelt = bytes_spelt(token);
    MOEKIT_CHECK(!spelt || ids.count(*spelt) == 0, "bpe trainer.special_tokens: ", in_quotes(token),
                 " is a token that was learned");
    parts.special_tokens.emplace_back(token, bytes.size() + i);
  }
  parts.normalizer = normalizer_part_;
  parts.pre_tokenizer = pre_tokenizer_part_;
  return byte_level_document(std::move(parts));
}

}  // namespace moekit::text
