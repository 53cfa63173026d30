#include "moekit/text/bpe_trainer.h"

#include <algorithm>
#include <queue>
#include <set>
#include <tuple>

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

Json byte_level_part(bool use_regex) {
  return {{"type", "ByteLevel"},
          {"add_prefix_space", false},
          {"trim_offsets", true},
          {"use_regex", use_regex}};
}

Json split_part(const char* pattern) {
  const Json split = {{"type", "Split"},
                      {"pattern", {{"Regex", pattern}}},
                      {"behavior", "Isolated"},
                      {"invert", false}};
  return {{"type", "Sequence"},
          {"pretokenizers", Json::array({split, byte_level_part(false)})}};
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
      if (text.size() < 2) continue;  // has no pair
      auto& word = words_.emplace_back();
      word.count = count;
      for (const char c : text) word.symbols.push_back(static_cast<unsigned char>(c));
      for (std::size_t i = 0; i + 1 < word.symbols.size(); ++i) {
        add({word.symbols[i], word.symbols[i + 1]}, words_.size() - 1);
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

  /// Replaces a pair by one symbol in all words.
  void merge(Pair pair, std::int32_t symbol) {
    std::vector<std::size_t> places = std::move(pairs_.at(key_of(pair)).words);
    std::sort(places.begin(), places.end());
    places.erase(std::unique(places.begin(), places.end()), places.end());
    std::set<std::uint64_t> grown;
    for (const std::size_t at : places) {
      Word& word = words_[at];
      auto& symbols = word.symbols;
      const auto each_pair = [&](auto&& action) {
        for (std::size_t i = 0; i + 1 < symbols.size(); ++i) {
          action(Pair{symbols[i], symbols[i + 1]});
        }
      };
      each_pair([&](Pair before) { pairs_.at(key_of(before)).count -= word.count; });
      std::size_t out = 0;
      for (std::size_t i = 0; i < symbols.size(); ++out) {
        const bool found = i + 1 < symbols.size() && symbols[i] == pair.left &&
                           symbols[i + 1] == pair.right;
        symbols[out] = found ? symbol : symbols[i];
        i += found ? 2 : 1;
      }
      symbols.resize(out);
      each_pair([&](Pair after) {
        if (after.left == symbol || after.right == symbol) {
          add(after, at);
          grown.insert(key_of(after));
        } else {
          pairs_.at(key_of(after)).count += word.count;
        }
      });
    }
    for (const std::uint64_t key : grown) queue_.push({pairs_.at(key).count, key});
  }

 private:
  struct Word {
    std::vector<std::int32_t> symbols;
    std::int64_t count = 0;
  };
  struct PairInfo {
    std::int64_t count = 0;
    std::vector<std::size_t> words;  ///< that had it at some time; some more than once
  };
  struct Candidate {
    std::int64_t count;
    std::uint64_t key;
    /// Whether another one comes before it.
    bool operator<(const Candidate& other) const {
      return count != other.count ? count < other.count : key > other.key;
    }
  };

  static std::uint64_t key_of(Pair pair) {
    return std::uint64_t{static_cast<std::uint32_t>(pair.left)} << 32 |
           static_cast<std::uint32_t>(pair.right);
  }
  void add(Pair pair, std::size_t word) {
    PairInfo& info = pairs_[key_of(pair)];
    info.count += words_[word].count;
    if (info.words.empty() || info.words.back() != word) info.words.push_back(word);
  }

  std::vector<Word> words_;
  std::unordered_map<std::uint64_t, PairInfo> pairs_;
  std::priority_queue<Candidate> queue_;  ///< each pair with at least its count
};

}  // namespace

BpeTrainer::BpeTrainer(BpeTrainerOptions options) : options_(std::move(options)) {
  check_values(options_, "bpe trainer");
  std::set<std::string_view> seen;
  for (const auto& token : options_.special_tokens) {
    MOEKIT_CHECK(!token.empty() && is_utf8(token), "bpe trainer.special_tokens: ",
                 in_quotes(token), " must be UTF-8 and not empty");
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
    normalizer_ = make_part<NormalizerKinds>(normalizer_part_,
                                             NormalizerSite{place.key("normalizer")});
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
  const auto learned = options_.vocabulary_size -
                       static_cast<std::int64_t>(options_.special_tokens.size());
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
    MOEKIT_CHECK(!spelt || ids.count(*spelt) == 0, "bpe trainer.special_tokens: ",
                 in_quotes(token), " is a token that was learned");
    parts.special_tokens.emplace_back(token, bytes.size() + i);
  }
  parts.normalizer = normalizer_part_;
  parts.pre_tokenizer = pre_tokenizer_part_;
  return byte_level_document(std::move(parts));
}

}  // namespace moekit::text
