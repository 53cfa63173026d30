#include "moekit/text/models/unigram.h"

#include <algorithm>

#include "moekit/text/byte_trie.h"
#include "moekit/text/regex.h"
#include "moekit/text/utf8.h"

namespace moekit::text {
namespace {

class Unigram : public Model {
 public:
  Unigram(const UnigramOptions& options, const ModelSite& site);
  void encode(std::string_view word, std::vector<std::int32_t>& ids) const override;

 private:
  void add_token(std::string_view piece, std::vector<std::int32_t>& ids) const;

  std::vector<double> scores_;  ///< of ids
  double unknown_score_ = 0;
  std::int32_t unknown_ = -1;
  std::vector<std::int32_t> fallback_;  ///< empty without byte fallback
  ByteTrie tokens_;
};

Unigram::Unigram(const UnigramOptions& options, const ModelSite& site) {
  constexpr double kUnknownPenalty = 10;
  const Place place = site.place.key("vocab");
  if (!options.vocab.is_array() || options.vocab.empty()) {
    refuse(place, "a list of [token, score], not empty", options.vocab);
  }
  std::vector<std::pair<std::string, std::int32_t>> tokens;
  for (const Json& item : options.vocab) {
    const std::size_t id = scores_.size();
    if (!item.is_array() || item.size() != 2 || !item[0].is_string() || !item[1].is_number()) {
      refuse(place.item(id), "[token, score]", item);
    }
    tokens.emplace_back(item[0].get<std::string>(), static_cast<std::int32_t>(id));
    site.vocabulary->add(tokens.back().first, static_cast<std::int64_t>(id), place.item(id));
    scores_.push_back(item[1].get<double>());
  }
  unknown_score_ = *std::min_element(scores_.begin(), scores_.end()) - kUnknownPenalty;
  tokens_ = ByteTrie(std::move(tokens));
  if (options.byte_fallback) fallback_ = byte_tokens(*site.vocabulary);
  if (options.unk_id.is_null()) return;
  if (!options.unk_id.is_number_unsigned() ||
      options.unk_id.get<std::uint64_t>() >= scores_.size()) {
    refuse(site.place.key("unk_id"), concat("an id below ", scores_.size(), ", or null"),
           options.unk_id);
  }
  unknown_ = options.unk_id.get<std::int32_t>();
}

void Unigram::encode(std::string_view word, std::vector<std::int32_t>& ids) const {
  /// The best way to a place: its last token and where that begins.
  struct Step {
    double score = 0;
    std::int32_t id = -1;
    bool reached = false;
    std::size_t begin = 0;
  };
  std::vector<Step> steps(word.size() + 1);
  for (std::size_t at = 0; at < word.size();) {
    const std::size_t character = character_bytes(word[at]);
    const double before = steps[at].score;
    const auto try_token = [&](std::size_t bytes, std::int32_t id, double score) {
      Step& step = steps[at + bytes];
      if (step.reached && !(before + score > step.score)) return;
      step = {before + score, id, true, at};
    };
    bool alone = false;  // whether the character is a token by itself
    tokens_.prefixes(word, at, [&](std::size_t bytes, std::int32_t id) {
      try_token(bytes, id, scores_[static_cast<std::size_t>(id)]);
      alone = alone || bytes == character;
    });
    if (!alone) try_token(character, unknown_, unknown_score_);
    at += character;
  }
  // From the end; pieces are those of one token, or of neighbouring unknown characters.
  std::vector<Span> pieces;
  bool joined = false;
  for (std::size_t end = word.size(); end > 0; end = steps[end].begin) {
    const bool unknown = steps[end].id == unknown_;
    if (unknown && joined) {
      pieces.back().begin = steps[end].begin;
    } else {
      pieces.push_back({steps[end].begin, end});
    }
    joined = unknown;
  }
  for (auto piece = pieces.rbegin(); piece != pieces.rend(); ++piece) {
    add_token(word.substr(piece->begin, piece->end - piece->begin), ids);
  }
}

/// Unknown characters together may be a token, or bytes.
void Unigram::add_token(std::string_view piece, std::vector<std::int32_t>& ids) const {
  std::int32_t found = -1;
  tokens_.prefixes(piece, 0, [&](std::size_t bytes, std::int32_t id) {
    if (bytes == piece.size()) found = id;
  });
  const auto byte_token = [&](char c) { return fallback_[static_cast<unsigned char>(c)]; };
  if (found < 0 && !fallback_.empty() &&
      std::all_of(piece.begin(), piece.end(), [&](char c) { return byte_token(c) >= 0; })) {
    for (const char c : piece) ids.push_back(byte_token(c));
    return;
  }
  if (found < 0) found = unknown_;
  MOEKIT_CHECK(found >= 0, "no token for ", in_quotes(piece), ", and the model has no unk_id");
  ids.push_back(found);
}

}  // namespace

std::unique_ptr<Model> make_unigram(const UnigramOptions& options, const ModelSite& site) {
  return std::make_unique<Unigram>(options, site);
}

}  // namespace moekit::text
