#include "moekit/report/routed_text.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "moekit/core/error.h"
#include "moekit/core/schema.h"
#include "moekit/report/svg.h"

namespace moekit::report {
namespace {

/// [expert, weight, expert, weight, ...] of each token.
Json routes_json(const std::vector<std::vector<RoutedTo>>& tokens) {
  Json out = Json::array();
  for (const auto& token : tokens) {
    Json list = Json::array();
    for (const auto& to : token) {
      list.push_back(to.expert);
      list.push_back(to.weight);
    }
    out.push_back(std::move(list));
  }
  return out;
}

Json card_json(const ExpertCard& card) {
  Json tokens = Json::array();
  for (const auto& [token, count] : card.tokens) tokens.push_back({token, count});
  Json groups = Json::array();
  for (const auto& [name, share] : card.groups) groups.push_back({name, share});
  Json snippets = Json::array();
  for (const auto& s : card.snippets) snippets.push_back({s.before, s.token, s.after});
  return {{"share", card.share},
          {"tokens", std::move(tokens)},
          {"groups", std::move(groups)},
          {"snippets", std::move(snippets)}};
}

/// Lists of lists that belong together, one a layer.
void check_sizes(const RoutedTexts& texts, const std::string& where) {
  MOEKIT_CHECK_FORMAT(texts.cards.size() == texts.layers.size(), where, ": cards: wanted ",
                      texts.layers.size(), " lists, one a layer; got ", texts.cards.size());
  for (const auto& text : texts.texts) {
    MOEKIT_CHECK_FORMAT(text.routes.size() == texts.layers.size(), where,
                        ": texts: routes: wanted ", texts.layers.size(),
                        " lists, one a layer; got ", text.routes.size());
    for (std::size_t l = 0; l < text.routes.size(); ++l) {
      MOEKIT_CHECK_FORMAT(text.routes[l].size() == text.tokens.size(), where,
                          ": texts: routes: wanted ", text.tokens.size(),
                          " lists, one a token; got ", text.routes[l].size());
      for (const auto& token : text.routes[l]) {
        for (const auto& to : token) {
          MOEKIT_CHECK_FORMAT(
              to.expert >= 0 && static_cast<std::size_t>(to.expert) < texts.cards[l].size(), where,
              ": texts: routes: layer ", texts.layers[l], " has no expert ", to.expert);
        }
      }
    }
  }
}

}  // namespace

Json to_json(const RoutedTexts& texts) {
  Json out = {{"layers", texts.layers}, {"texts", Json::array()}, {"cards", Json::array()}};
  for (const auto& text : texts.texts) {
    Json routes = Json::array();
    for (const auto& layer : text.routes) routes.push_back(routes_json(layer));
    out["texts"].push_back(
        {{"title", text.title}, {"tokens", text.tokens}, {"routes", std::move(routes)}});
  }
  for (const auto& layer : texts.cards) {
    Json cards = Json::array();
    for (const auto& card : layer) cards.push_back(card_json(card));
    out["cards"].push_back(std::move(cards));
  }
  return out;
}

RoutedTexts routed_texts_of(const Json& value, const std::string& where) {
  // Pairs of expert and weight, and of name and number, are lists of both.
  static const Schema kPairs = Schema::list(Schema::list(Schema::any()));
  static const Schema kSchema = Schema::object(
      {{"layers", Schema::list(Schema::text())},
       {"texts", Schema::list(Schema::object(
                     {{"title", Schema::text()},
                      {"tokens", Schema::list(Schema::text())},
                      {"routes", Schema::list(Schema::list(Schema::list(Schema::number(0))))}}))},
       {"cards", Schema::list(Schema::list(Schema::object(
                     {{"share", Schema::number(0)},
                      {"tokens", kPairs},
                      {"groups", kPairs},
                      {"snippets", Schema::list(Schema::list(Schema::text()))}})))}});
  kSchema.check(value, where);
  const auto pair = [&](const Json& item, const char* key) {
    MOEKIT_CHECK_FORMAT(item.size() == 2 && item[0].is_string() && item[1].is_number(), where,
                        ": cards: ", key, ": wanted pairs of a text and a number; got ",
                        item.dump());
    return std::make_pair(item[0].get<std::string>(), item[1].get<double>());
  };
  RoutedTexts out;
  out.layers = value["layers"].get<std::vector<std::string>>();
  for (const auto& item : value["texts"]) {
    RoutedText text{item["title"], item["tokens"].get<std::vector<std::string>>(), {}};
    for (const auto& layer : item["routes"]) {
      text.routes.emplace_back();
      for (const auto& token : layer) {
        MOEKIT_CHECK_FORMAT(token.size() % 2 == 0, where,
                            ": texts: routes: wanted pairs of expert and weight; got ",
                            token.dump());
        text.routes.back().emplace_back();
        for (std::size_t i = 0; i < token.size(); i += 2) {
          const double expert = token[i].get<double>();
          MOEKIT_CHECK_FORMAT(expert < 1e6 && expert == std::floor(expert), where,
                              ": texts: routes: wanted experts by number; got ", token[i].dump());
          text.routes.back().back().push_back(
              {static_cast<int>(expert), token[i + 1].get<double>()});
        }
      }
    }
    out.texts.push_back(std::move(text));
  }
  for (const auto& layer : value["cards"]) {
    out.cards.emplace_back();
    for (const auto& item : layer) {
      ExpertCard card;
      card.share = item["share"];
      for (const auto& token : item["tokens"]) {
        const auto [name, count] = pair(token, "tokens");
        card.tokens.emplace_back(name, static_cast<int>(std::clamp(count, 0.0, 1e9)));
      }
      for (const auto& group : item["groups"]) card.groups.push_back(pair(group, "groups"));
      for (const auto& snippet : item["snippets"]) {
        MOEKIT_CHECK_FORMAT(
            snippet.size() == 3, where,
            ": cards: snippets: wanted what is before, the token and what is after");
        card.snippets.push_back({snippet[0], snippet[1], snippet[2]});
      }
      out.cards.back().push_back(std::move(card));
    }
  }
  check_sizes(out, where);
  return out;
}

std::string routed_texts_html(const RoutedTexts& texts, Json& all) {
  if (texts.layers.empty()) return {};
  check_sizes(texts, "routed texts");
  std::string options;
  for (std::size_t l = 0; l < texts.layers.size(); ++l) {
    options +=
        fmt::format("<option value=\"{}\"{}>{}</option>", l,
                    l + 1 == texts.layers.size() ? " selected" : "", escape_html(texts.layers[l]));
  }
  const auto number = all.size();
  all.push_back(to_json(texts));
  return fmt::format(
      "<div class=\"texts\" data-texts=\"{}\"><h3>Who gets which token</h3>"
      "<p class=\"note\">Every token is in the colour of its first expert. Point at one, or tap "
      "it, "
      "for its weights; choose an expert to see its tokens alone.</p>"
      "<p><label>Layer <select>{}</select></label></p><div class=\"experts\"></div>"
      "<p class=\"told\" aria-live=\"polite\"></p><div class=\"read\"></div>"
      "<div class=\"cards\"></div></div>",
      number, options);
}

}  // namespace moekit::report
