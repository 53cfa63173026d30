#include "moekit/tasks/language/text_data.h"

#include <algorithm>
#include <numeric>
#include <random>

#include "moekit/core/checksum.h"
#include "moekit/core/error.h"
#include "moekit/core/random.h"
#include "moekit/data/corpora.h"
#include "moekit/data/sequence_tasks.h"
#include "moekit/tasks/language/token_folder.h"
#include "moekit/text/bpe_trainer.h"
#include "moekit/text/documents.h"

namespace moekit::language {
namespace {

constexpr size_t kShownBytes = 40;     // of a text that a message is about
constexpr uint64_t kQuestionSeed = 1;  // of generated texts, likewise
constexpr uint64_t kOrderSeed = 1;     // of documents: the same in all runs, whatever their seed

/// A domain's documents in an order in which training and judged ones are of all kinds.
std::vector<size_t> order_of(const data::TextDomain& domain) {
  const auto drawn = random_permutation(static_cast<int64_t>(domain.documents.size()),
                                        derive_seed(kOrderSeed, domain.name));
  return {drawn.begin(), drawn.end()};
}

/// The part of a domain's texts that is trained on, up to a document's cut.
template <typename Take>
void training_texts(const data::TextDomain& domain, double validation_share, const Take& take) {
  size_t bytes = 0;
  for (const auto& document : domain.documents) bytes += document.size();
  auto left = static_cast<size_t>(static_cast<double>(bytes) * (1 - validation_share));
  for (const size_t i : order_of(domain)) {
    const std::string_view document = domain.documents[i];
    take(document.substr(0, left));
    if (document.size() >= left) return;
    left -= document.size();
  }
}

/// Cuts windows that begin at these places of domains.
Windows cut(const std::vector<DomainTokens>& domains,
            const std::vector<std::pair<size_t, int64_t>>& places, int64_t length, bool documents) {
  const auto count = static_cast<int64_t>(places.size());
  Windows out;
  out.ids = torch::empty({count, length + 1}, torch::kLong);
  out.domain = torch::empty({count}, torch::kLong);
  if (documents) out.first = torch::zeros({count, length}, torch::kInt);
  for (int64_t b = 0; b < count; ++b) {
    const auto& [d, begin] = places[static_cast<size_t>(b)];
    const auto& domain = domains[d];
    auto* row = out.ids.data_ptr<int64_t>() + b * (length + 1);
    domain.tokens->copy(begin, {row, static_cast<size_t>(length + 1)});
    out.domain.data_ptr<int64_t>()[b] = static_cast<int64_t>(d);
    if (!documents) continue;
    auto* first = out.first.data_ptr<int32_t>() + b * length;
    auto next = std::upper_bound(domain.starts.begin(), domain.starts.end(), begin);
    int32_t start = 0;
    for (int64_t t = 0; t < length; ++t) {
      if (next != domain.starts.end() && *next == begin + t) {
        start = static_cast<int32_t>(t);
        ++next;
      }
      first[t] = start;
    }
  }
  return out;
}

/// Which tokens of windows foretell one of an answer. A question whose beginning lies before the
/// window has none.
torch::Tensor answers_in(const torch::Tensor& ids, const AnswerMarks& marks) {
  const int64_t length = ids.size(1) - 1;
  auto out = torch::zeros({ids.size(0), length}, torch::kBool);
  for (int64_t b = 0; b < ids.size(0); ++b) {
    const auto* row = ids.data_ptr<int64_t>() + b * ids.size(1);
    auto* is_answer = out.data_ptr<bool>() + b * length;
    bool known = false;
    bool inside = false;
    for (int64_t t = 0; t < length; ++t) {
      if (row[t] == marks.question) {
        known = true;
        inside = false;
      } else if (row[t] == marks.begin) {
        inside = known;
      }
      is_answer[t] = inside && row[t + 1] != marks.end && row[t + 1] != marks.question;
      if (row[t + 1] == marks.end) inside = false;
    }
  }
  return out;
}

}  // namespace

Windows TextData::draw(int64_t count, int64_t length, uint64_t seed, bool documents) const {
  std::mt19937_64 generator(seed);
  std::vector<std::pair<size_t, int64_t>> places;
  for (int64_t b = 0; b < count; ++b) {
    double at = uniform_unit(generator);
    size_t d = 0;
    while (d + 1 < domains.size() && at >= weights[d]) at -= weights[d++];
    while (weights[d] == 0) --d;  // rounding may lead beyond the last one that is drawn
    const auto room = static_cast<uint64_t>(domains[d].train - length);
    places.emplace_back(d, static_cast<int64_t>(uniform_below(generator, room)));
  }
  return with_answers(cut(domains, places, length, documents));
}

Windows TextData::with_answers(Windows windows) const {
  if (answers) windows.answer = answers_in(windows.ids, *answers);
  return windows;
}

Windows TextData::judged(size_t d, int64_t count, int64_t length, bool documents) const {
  const auto& domain = domains[d];
  const int64_t tokens = domain.tokens->size() - domain.train;
  const int64_t most = (tokens - 1) / length;
  const int64_t taken = std::min(count, most);
  std::vector<std::pair<size_t, int64_t>> places;
  for (int64_t i = 0; i < taken; ++i) {
    places.emplace_back(d, domain.train + (most * i / taken) * length);
  }
  return with_answers(cut(domains, places, length, documents));
}

// Of texts that are judged nothing is learned but their characters.
text::Tokenizer make_tokenizer(const DataConfig& config,
                               const std::vector<data::TextDomain>& domains) {
  if (config.tokenizer == "characters") {
    std::string all;
    for (const auto& domain : domains) {
      for (const auto& document : domain.documents) {
        MOEKIT_CHECK(is_utf8(document), "data.tokenizer = \"characters\": a text of domain ",
                     domain.name, " is not UTF-8; it begins ",
                     in_quotes(document.substr(0, kShownBytes)));
        all += document;
      }
    }
    return text::character_tokenizer(all);
  }
  const bool bytes = config.tokenizer == "bytes";
  if (!bytes && config.tokenizer != "bpe") return text::Tokenizer::load(config.tokenizer);
  text::BpeTrainerOptions options;
  options.special_tokens = {std::string(kEndOfText)};
  options.vocabulary_size = bytes ? 257 : config.vocabulary;
  text::BpeTrainer trainer(options);
  for (const auto& domain : domains) {
    training_texts(domain, config.validation_share,
                   [&](std::string_view document) { trainer.add(document); });
  }
  const Json document = about("data.vocabulary", [&] { return trainer.train(); });
  return text::Tokenizer::parse(document, "data.tokenizer");
}

void encode_domain(const data::TextDomain& domain, const text::Tokenizer& tokenizer,
                   const std::function<bool(const std::vector<int32_t>& ids, size_t bytes)>& take) {
  const auto end = tokenizer.id_of(kEndOfText);
  std::vector<int32_t> ids;
  for (const size_t i : order_of(domain)) {
    const auto& document = domain.documents[i];
    ids.clear();
    if (end) ids.push_back(*end);
    about(concat("data.corpus: a text of domain ", domain.name, ", which begins ",
                 in_quotes(document.substr(0, kShownBytes))),
          [&] {
            const auto own = tokenizer.encode(document);
            ids.insert(ids.end(), own.begin(), own.end());
          });
    if (!take(ids, document.size())) return;
  }
}

int64_t training_tokens(int64_t tokens, double validation_share) {
  return static_cast<int64_t>(static_cast<double>(tokens) * (1 - validation_share));
}

std::vector<data::TextDomain> read_texts(const DataConfig& config) {
  if (!config.generated.empty()) {
    return data::sequence_tasks(config.generated, config.generated_documents,
                                config.generated_digits, kQuestionSeed);
  }
  return config.corpus.empty() ? data::default_corpus() : data::read_corpus(config.corpus);
}

namespace {

TextData cut_texts(const DataConfig& options) {
  const auto texts = read_texts(options);
  TextData out{make_tokenizer(options, texts), {}, {}, {}, {}};
  Sha256 sum;
  sum.add(out.tokenizer.document());
  for (const auto& domain : texts) {
    sum.add(domain.name);
    for (const auto& document : domain.documents) sum.add(document);
    DomainTokens made;
    made.name = domain.name;
    std::vector<int32_t> all;
    encode_domain(domain, out.tokenizer, [&](const std::vector<int32_t>& ids, size_t) {
      made.starts.push_back(static_cast<int64_t>(all.size()));
      all.insert(all.end(), ids.begin(), ids.end());
      return true;
    });
    made.train = training_tokens(static_cast<int64_t>(all.size()), options.validation_share);
    made.tokens = tokens_in_memory(std::move(all));
    out.domains.push_back(std::move(made));
  }
  out.checksum = sum.hex();
  return out;
}

}  // namespace

namespace {

/// The key that says which texts a run has.
const char* source_key(const DataConfig& options) {
  if (!options.generated.empty()) return "data.generated_documents";
  return options.tokens.empty() ? "data.corpus" : "data.tokens";
}

}  // namespace

TextData load_text_data(const Config& config) {
  const auto& options = config.data;
  auto out = options.tokens.empty() ? cut_texts(options)
                                    : read_token_folder(options.tokens, options.validation_share);
  for (const auto& made : out.domains) {
    const int64_t least = config.model.context + 1;
    const int64_t judged = made.tokens->size() - made.train;
    MOEKIT_CHECK(made.train > least && judged >= least, source_key(options), ": domain ", made.name,
                 " has ", made.train, " tokens to train on and ", judged,
                 " to be judged; a window of model.context = ", config.model.context, " takes ",
                 least);
  }
  MOEKIT_CHECK(options.weights.empty() || options.weights.size() == out.domains.size(),
               "data.weights: wanted one for each of ", out.domains.size(), " domains; got ",
               options.weights.size());
  for (size_t d = 0; d < out.domains.size(); ++d) {
    out.weights.push_back(options.weights.empty() ? static_cast<double>(out.domains[d].train)
                                                  : options.weights[d]);
  }
  const double total = std::accumulate(out.weights.begin(), out.weights.end(), 0.0);
  MOEKIT_CHECK(total > 0, "data.weights: all are 0");
  for (double& weight : out.weights) weight /= total;
  if (options.answers) {
    const auto one = [&](const char* text) {
      const auto ids = out.tokenizer.encode(text);
      MOEKIT_CHECK(ids.size() == 1,
                   "data.answers: wants a tokenizer that has tokens for \"=\" and "
                   "the end of a line, as bytes; data.tokenizer = ",
                   options.tokenizer, " cuts ", in_quotes(text), " into ", ids.size());
      return static_cast<int64_t>(ids.front());
    };
    const auto start = out.tokenizer.id_of(kEndOfText);
    MOEKIT_CHECK(start.has_value(), "data.answers: wants a tokenizer with ", kEndOfText,
                 ", which documents begin with");
    out.answers = AnswerMarks{*start, one("="), one("\n")};
  }
  for (int64_t id = 0; id < out.vocabulary_size(); ++id) {
    const auto token = static_cast<int32_t>(id);
    const bool counts = out.tokenizer.has(id) && !out.tokenizer.is_special(token);
    out.token_bytes.push_back(
        counts ? static_cast<int32_t>(out.tokenizer.decode_bytes(std::span(&token, 1)).size()) : 0);
  }
  return out;
}

}  // namespace moekit::language
