#include "moekit/tasks/language/routed_texts.h"

#include <torch/types.h>

#include <algorithm>
#include <map>

#include "moekit/tasks/language/judged_batches.h"

namespace moekit::language {
namespace {

constexpr size_t kTopTokens = 12;
constexpr size_t kSnippets = 3;
constexpr int64_t kAround = 6;  // tokens on each side of a snippet's own

/// A token that went to an expert.
struct Visit {
  size_t domain = 0;
  int64_t window = 0;
  int64_t place = 0;
  int32_t id = 0;
  double weight = 0;
};

/// The experts of each of N tokens, heaviest first, of equal ones the lower. Where a mixture cuts
/// tokens into parts, a token has the experts of all its parts.
std::vector<std::vector<report::RoutedTo>> routes_of(const nn::Routing& routing, int64_t tokens) {
  std::vector<std::vector<report::RoutedTo>> out(static_cast<size_t>(tokens));
  const int64_t parts = routing.num_tokens() / tokens;
  const auto token = routing.token.contiguous();
  const auto expert = routing.expert.contiguous();
  const auto weight = routing.weight.detach().to(torch::kFloat64).contiguous();
  for (int64_t a = 0; a < routing.num_assignments(); ++a) {
    out[static_cast<size_t>(token.data_ptr<int64_t>()[a] / parts)].push_back(
        {static_cast<int>(expert.data_ptr<int64_t>()[a]), weight.data_ptr<double>()[a]});
  }
  for (auto& list : out) {
    std::stable_sort(list.begin(), list.end(), [](const auto& a, const auto& b) {
      return a.weight != b.weight ? a.weight > b.weight : a.expert < b.expert;
    });
  }
  return out;
}

/// What reads well: the text itself, where it is one; a lone part of a character by its byte.
std::string readable(const text::Tokenizer& tokenizer, int32_t id) {
  const auto bytes = tokenizer.decode_bytes(std::span(&id, 1));
  return is_utf8(bytes) && !tokenizer.is_special(id) ? bytes : tokenizer.token_text(id);
}

report::ExpertCard card_of(const std::vector<Visit>& visits, size_t all, const TextData& data,
                           const std::vector<torch::Tensor>& ids) {
  report::ExpertCard card;
  card.share = static_cast<double>(visits.size()) / static_cast<double>(std::max<size_t>(all, 1));
  std::map<int32_t, int> counts;
  std::vector<double> of_domain(data.domains.size(), 0);
  for (const auto& visit : visits) {
    ++counts[visit.id];
    of_domain[visit.domain] += 1;
  }
  std::vector<std::pair<int32_t, int>> order(counts.begin(), counts.end());
  std::stable_sort(order.begin(), order.end(),
                   [](const auto& a, const auto& b) { return a.second > b.second; });
  for (size_t i = 0; i < std::min(kTopTokens, order.size()); ++i) {
    card.tokens.emplace_back(data.tokenizer.token_text(order[i].first), order[i].second);
  }
  for (size_t d = 0; d < of_domain.size(); ++d) {
    if (of_domain[d] == 0) continue;
    card.groups.emplace_back(data.domains[d].name,
                             of_domain[d] / static_cast<double>(visits.size()));
  }
  std::stable_sort(card.groups.begin(), card.groups.end(),
                   [](const auto& a, const auto& b) { return a.second > b.second; });
  // Snippets of the largest weights, of different tokens.
  std::vector<Visit> heaviest = visits;
  std::stable_sort(heaviest.begin(), heaviest.end(),
                   [](const Visit& a, const Visit& b) { return a.weight > b.weight; });
  std::vector<int32_t> shown;
  for (const auto& visit : heaviest) {
    if (card.snippets.size() == kSnippets) break;
    if (std::find(shown.begin(), shown.end(), visit.id) != shown.end()) continue;
    shown.push_back(visit.id);
    const auto window = ids[visit.domain][visit.window].to(torch::kInt).contiguous();
    const auto text = [&](int64_t begin, int64_t end) {
      const auto* first = window.data_ptr<int32_t>();
      begin = std::max<int64_t>(begin, 0);
      end = std::min(end, window.numel());
      return data.tokenizer.decode({first + begin, first + std::max(begin, end)}, true);
    };
    card.snippets.push_back({text(visit.place - kAround, visit.place),
                             readable(data.tokenizer, visit.id),
                             text(visit.place + 1, visit.place + 1 + kAround)});
  }
  return card;
}

}  // namespace

report::RoutedTexts route_texts(models::DecoderImpl& model, const TextData& data,
                                const Config& config, int64_t windows) {
  const int64_t length = config.model.context;
  report::RoutedTexts out;
  std::vector<std::vector<std::vector<Visit>>> visits;  // [layers][experts]
  std::vector<size_t> all;                              // of a layer
  std::vector<torch::Tensor> ids;
  for_judged(model, data, config, windows, windows, [&](const JudgedBatch& batch) {
    const size_t d = batch.domain;
    const auto& drawn = batch.windows;
    const auto& output = batch.output;
    ids.push_back(drawn.ids);
    if (out.layers.empty()) {
      for (const auto& layer : output.layers) {
        out.layers.push_back(layer.name);
        visits.emplace_back(static_cast<size_t>(layer.routing.num_experts()));
        all.push_back(0);
      }
    }
    report::RoutedText text{data.domains[d].name, {}, {}};
    for (int64_t t = 0; t < length; ++t) {
      text.tokens.push_back(
          readable(data.tokenizer, static_cast<int32_t>(drawn.ids[0][t].item<int64_t>())));
    }
    for (size_t l = 0; l < output.layers.size(); ++l) {
      auto routes = routes_of(output.layers[l].routing, drawn.ids.size(0) * length);
      for (size_t n = 0; n < routes.size(); ++n) {
        const auto place = static_cast<int64_t>(n);
        const auto id = drawn.ids[place / length][place % length].item<int64_t>();
        for (const auto& to : routes[n]) {
          visits[l][static_cast<size_t>(to.expert)].push_back(
              {d, place / length, place % length, static_cast<int32_t>(id), to.weight});
        }
        all[l] += routes[n].size();
      }
      routes.resize(static_cast<size_t>(length));
      text.routes.push_back(std::move(routes));
    }
    out.texts.push_back(std::move(text));
  });
  for (size_t l = 0; l < visits.size(); ++l) {
    out.cards.emplace_back();
    for (const auto& of_expert : visits[l]) {
      out.cards.back().push_back(card_of(of_expert, all[l], data, ids));
    }
  }
  if (out.layers.empty()) out.texts.clear();
  return out;
}

}  // namespace moekit::language
