#include "moekit/text/models/bpe.h"

#include <algorithm>
#include <array>
#include <functional>
#include <limits>
#include <queue>
#include <unordered_map>

#include "moekit/text/byte_alphabet.h"
#include "moekit/text/models/pair_table.h"
#include "moekit/text/utf8.h"

namespace moekit::text {
namespace {

/// Up to so many symbols a word is searched through for each merge: no queue is faster.
constexpr std::size_t kShortWord = 48;

class Bpe : public Model {
 public:
  Bpe(const BpeOptions& options, const ModelSite& site);
  void encode(std::string_view word, std::vector<std::int32_t>& ids) const override;
  void divide(Piece word, PieceSink& sink) const override;

 private:
  void read_vocabulary(const BpeOptions& options, const ModelSite& site);
  void read_merges(const Json& merges, const Vocabulary& vocabulary, const Place& place);
  std::int32_t symbol_of(std::string_view character) const;
  void add_symbols(std::string_view word, std::vector<std::int32_t>& ids) const;
  void merge_short(std::vector<std::int32_t>& ids, std::size_t begin) const;
  void merge_long(std::vector<std::int32_t>& ids, std::size_t begin) const;

  bool byte_level_;
  bool fuse_unk_;
  std::int32_t unknown_ = -1;
  std::unordered_map<std::string, std::int32_t> symbols_;  ///< characters, or bytes
  std::array<std::int32_t, 256> byte_symbol_{};            ///< those of one byte; -1: none
  std::vector<std::int32_t> fallback_;                     ///< empty without byte fallback
  std::unordered_map<std::string, std::int32_t> words_;    ///< of `ignore_merges`, else empty
  PairTable merges_;
  PairTable seams_;  ///< symbols that some merge joins tokens at; of characters alone
};

Bpe::Bpe(const BpeOptions& options, const ModelSite& site)
    : byte_level_(site.byte_level), fuse_unk_(options.fuse_unk) {
  const Place& place = site.place;
  if (!options.dropout.is_null()) {
    refuse(place.key("dropout"), "null: encoding does not draw", options.dropout);
  }
  for (const auto& [name, value] :
       {std::pair("continuing_subword_prefix", &options.continuing_subword_prefix),
        std::pair("end_of_word_suffix", &options.end_of_word_suffix)}) {
    if (!value->is_null() && *value != "") refuse(place.key(name), "null or empty", *value);
  }
  read_vocabulary(options, site);
  if (options.byte_fallback) fallback_ = byte_tokens(*site.vocabulary);
  // An empty one is none: GPT-2's own file has it so.
  if (!options.unk_token.is_null() && options.unk_token != "") {
    const auto unknown = options.unk_token.is_string()
                             ? site.vocabulary->find(options.unk_token.get<std::string>())
                             : std::nullopt;
    if (!unknown) refuse(place.key("unk_token"), "a token of vocab, or null", options.unk_token);
    unknown_ = *unknown;
  }
  read_merges(options.merges, *site.vocabulary, place.key("merges"));
}

void Bpe::read_vocabulary(const BpeOptions& options, const ModelSite& site) {
  const Place place = site.place.key("vocab");
  if (!options.vocab.is_object() || options.vocab.empty()) {
    refuse(place, "an object of ids, not empty", options.vocab);
  }
  byte_symbol_.fill(-1);
  for (const auto& [token, id] : options.vocab.items()) {
    if (!id.is_number_unsigned() || id.get<std::uint64_t>() >= kMaxVocabulary) {
      refuse(place.key(token), concat("a whole number from 0 to ", kMaxVocabulary - 1), id);
    }
    const auto value = id.get<std::int32_t>();
    site.vocabulary->add(token, value, place);
    const auto spelt = byte_level_ ? bytes_spelt(token) : std::optional<std::string>(token);
    if (!spelt || spelt->empty()) continue;  // no word has it
    if (spelt->size() == 1) byte_symbol_[static_cast<unsigned char>(spelt->front())] = value;
    if (!byte_level_ && is_one_character(*spelt)) symbols_.emplace(*spelt, value);
    if (options.ignore_merges) words_.emplace(*spelt, value);
  }
}

void Bpe::read_merges(const Json& merges, const Vocabulary& vocabulary, const Place& place) {
  constexpr const char* kWanted = "two tokens: \"a b\" or [\"a\", \"b\"]";
  if (!merges.is_array()) refuse(place, "a list", merges);
  MOEKIT_CHECK_FORMAT(merges.size() < Merge::kNever, place, ": too many");
  merges_ = PairTable(merges.size());
  if (!byte_level_) seams_ = PairTable(merges.size());
  std::uint32_t rank = 0;
  std::size_t i = 0;
  const auto id_of = [&](const std::string& token) {
    const auto id = vocabulary.find(token);
    MOEKIT_CHECK_FORMAT(id, place.item(i), ": ", in_quotes(token), " is no token of vocab");
    return *id;
  };
  for (; i < merges.size(); ++i) {
    const Json& merge = merges[i];
    std::string left;
    std::string right;
    if (merge.is_string()) {
      const auto& line = merge.get_ref<const std::string&>();
      if (line.rfind("#version", 0) == 0) continue;  // the first line of such files
      const std::size_t space = line.find(' ');
      if (space == std::string::npos || line.find(' ', space + 1) != std::string::npos) {
        refuse(place.item(i), kWanted, merge);
      }
      left = line.substr(0, space);
      right = line.substr(space + 1);
    } else if (merge.is_array() && merge.size() == 2 && merge[0].is_string() &&
               merge[1].is_string()) {
      left = merge[0].get<std::string>();
      right = merge[1].get<std::string>();
    } else {
      refuse(place.item(i), kWanted, merge);
    }
    const std::int32_t left_id = id_of(left);
    const std::int32_t right_id = id_of(right);
    merges_.set(left_id, right_id, {rank++, id_of(left + right)});
    if (byte_level_ || left.empty() || right.empty()) continue;
    const auto last = symbol_of(std::string_view(left).substr(character_before(left, left.size())));
    const auto first = symbol_of(std::string_view(right).substr(0, character_bytes(right[0])));
    if (last >= 0 && first >= 0) seams_.set(last, first, {0, 0});
  }
}

void Bpe::encode(std::string_view word, std::vector<std::int32_t>& ids) const {
  if (!words_.empty()) {
    if (const auto found = words_.find(std::string(word)); found != words_.end()) {
      ids.push_back(found->second);
      return;
    }
  }
  const std::size_t begin = ids.size();
  add_symbols(word, ids);
  if (ids.size() - begin <= kShortWord) {
    merge_short(ids, begin);
  } else {
    merge_long(ids, begin);
  }
}

/// -1: none.
std::int32_t Bpe::symbol_of(std::string_view character) const {
  if (character.size() == 1) return byte_symbol_[static_cast<unsigned char>(character[0])];
  const auto found = symbols_.find(std::string(character));
  return found == symbols_.end() ? -1 : found->second;
}

/// Between two characters that no merge joins tokens at. Not beside unknown ones, which may be one
/// symbol together.
void Bpe::divide(Piece word, PieceSink& sink) const {
  if (byte_level_ || !words_.empty()) return sink.take(word);
  std::size_t begin = 0;
  std::int32_t before = -1;
  for (std::size_t at = 0; at < word.text.size();) {
    const std::size_t bytes = character_bytes(word.text[at]);
    const std::int32_t symbol = symbol_of(word.text.substr(at, bytes));
    if (before >= 0 && symbol >= 0 && seams_.find(before, symbol).rank == Merge::kNever) {
      sink.take({word.text.substr(begin, at - begin), false});
      begin = at;
    }
    before = symbol;
    at += bytes;
  }
  sink.take({word.text.substr(begin), false});
}

/// Appends a symbol for each character, or byte.
void Bpe::add_symbols(std::string_view word, std::vector<std::int32_t>& ids) const {
  int unknown = 0;  // such symbols not yet appended
  const auto flush = [&] {
    for (; unknown > 0; --unknown) ids.push_back(unknown_);
  };
  for (std::size_t at = 0; at < word.size();) {
    const auto lead = static_cast<unsigned char>(word[at]);
    const std::size_t bytes = byte_level_ ? 1 : character_bytes(word[at]);
    const std::string_view character = word.substr(at, bytes);
    at += bytes;
    const std::int32_t id = symbol_of(character);
    if (id >= 0) {
      flush();
      ids.push_back(id);
      continue;
    }
    if (!fallback_.empty()) {
      // As in the file, where a byte is the character that spells it.
      const std::string spelt = byte_level_ ? spell_bytes(character) : std::string(character);
      const auto token = [&](char c) { return fallback_[static_cast<unsigned char>(c)]; };
      if (std::all_of(spelt.begin(), spelt.end(), [&](char c) { return token(c) >= 0; })) {
        // An unknown symbol before stays behind these, as in the other implementation.
        for (const char c : spelt) ids.push_back(token(c));
        continue;
      }
    }
    MOEKIT_CHECK(unknown_ >= 0, "no token for ",
                 byte_level_ ? concat("the byte ", static_cast<int>(lead)) : in_quotes(character),
                 ", and the model has no unk_token");
    if (unknown == 1 && !fuse_unk_) flush();
    unknown = 1;
  }
  flush();
}

void Bpe::merge_short(std::vector<std::int32_t>& ids, std::size_t begin) const {
  std::int32_t* id = ids.data() + begin;
  std::size_t count = ids.size() - begin;
  std::array<Merge, kShortWord> merges;  // of each symbol with the next one
  for (std::size_t i = 0; i + 1 < count; ++i) merges[i] = merges_.find(id[i], id[i + 1]);
  while (count > 1) {
    std::size_t best = 0;
    for (std::size_t i = 1; i + 1 < count; ++i) {
      if (merges[i].rank < merges[best].rank) best = i;
    }
    if (merges[best].rank == Merge::kNever) break;
    id[best] = merges[best].id;
    for (std::size_t i = best + 1; i + 1 < count; ++i) {
      id[i] = id[i + 1];
      merges[i - 1] = merges[i];  // that of `best` is found anew below
    }
    --count;
    if (best > 0) merges[best - 1] = merges_.find(id[best - 1], id[best]);
    if (best + 1 < count) merges[best] = merges_.find(id[best], id[best + 1]);
  }
  ids.resize(begin + count);
}

void Bpe::merge_long(std::vector<std::int32_t>& ids, std::size_t begin) const {
  const std::size_t count = ids.size() - begin;
  MOEKIT_CHECK(count <= std::numeric_limits<std::uint32_t>::max(), "a word of ", count,
               " symbols; at most 2^32 - 1 can be merged");
  constexpr std::int32_t kGone = -1;
  std::int32_t* id = ids.data() + begin;
  // A list of symbols: the neighbours of each; `count` behind the last.
  std::vector<std::uint32_t> before(count);
  std::vector<std::uint32_t> behind(count);
  for (std::size_t i = 0; i < count; ++i) {
    before[i] = static_cast<std::uint32_t>(i) - 1;
    behind[i] = static_cast<std::uint32_t>(i) + 1;
  }
  // Rank and place in one number: the lowest rank first, of equal ones the leftmost.
  std::vector<std::uint64_t> first;
  const auto entry = [&](std::uint32_t rank, std::size_t at) {
    return std::uint64_t{rank} << 32 | at;
  };
  for (std::size_t i = 0; i + 1 < count; ++i) {
    const Merge merge = merges_.find(id[i], id[i + 1]);
    if (merge.rank != Merge::kNever) first.push_back(entry(merge.rank, i));
  }
  std::priority_queue<std::uint64_t, std::vector<std::uint64_t>, std::greater<>> queue(
      std::greater<>{}, std::move(first));
  while (!queue.empty()) {
    const std::uint64_t top = queue.top();
    queue.pop();
    const auto at = static_cast<std::uint32_t>(top);
    const std::uint32_t next = behind[at];
    if (id[at] == kGone || next == count) continue;
    const Merge merge = merges_.find(id[at], id[next]);
    if (merge.rank != top >> 32) continue;  // the pair has changed since
    id[at] = merge.id;
    id[next] = kGone;
    behind[at] = behind[next];
    if (behind[at] < count) before[behind[at]] = at;
    const auto add = [&](std::uint32_t left) {
      const Merge found = merges_.find(id[left], id[behind[left]]);
      if (found.rank != Merge::kNever) queue.push(entry(found.rank, left));
    };
    if (at > 0) add(before[at]);
    if (behind[at] < count) add(at);
  }
  ids.erase(std::remove(ids.begin() + static_cast<std::ptrdiff_t>(begin), ids.end(), kGone),
            ids.end());
}

}  // namespace

std::unique_ptr<Model> make_bpe(const BpeOptions& options, const ModelSite& site) {
  return std::make_unique<Bpe>(options, site);
}

}  // namespace moekit::text
