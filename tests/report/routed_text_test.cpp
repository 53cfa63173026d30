#include "moekit/report/routed_text.h"

#include <gtest/gtest.h>

#include "moekit/core/error.h"
#include "moekit/report/page.h"

namespace moekit::report {
namespace {

RoutedTexts two_layers() {
  RoutedTexts texts;
  texts.layers = {"layer0", "la<yer1"};
  texts.texts = {
      {"news", {"a", " b</script>"}, {{{{1, 0.75}, {0, 0.25}}, {}}, {{{0, 1}}, {{0, 0.5}}}}}};
  ExpertCard card;
  card.share = 0.5;
  card.tokens = {{"a", 3}};
  card.groups = {{"news", 1}};
  card.snippets = {{"before ", "a", " after"}};
  texts.cards = {{card, {}}, {card}};
  return texts;
}

TEST(RoutedText, ComesBackFromAFile) {
  const Json value = to_json(two_layers());
  EXPECT_EQ(to_json(routed_texts_of(value, "f")), value);
  EXPECT_EQ(value["texts"][0]["routes"][0].dump(), "[[1,0.75,0,0.25],[]]");
  EXPECT_EQ(value["cards"][0].size(), 2U);
}

TEST(RoutedText, IsPutIntoThePageAndEndsNoScript) {
  Page page;
  page.models.emplace_back();
  page.models[0].texts = two_layers();
  const auto html = render(page);
  EXPECT_NE(html.find("data-texts=\"0\""), std::string::npos);
  EXPECT_NE(html.find("la&lt;yer1</option>"), std::string::npos);
  EXPECT_NE(html.find(" b\\u003c/script>"), std::string::npos);
  EXPECT_EQ(html.find(" b</script>"), std::string::npos);
  Page without;
  without.models.emplace_back();
  EXPECT_EQ(render(without).find("data-texts="), std::string::npos);
}

TEST(RoutedText, RefusesWhatDoesNotGoTogether) {
  const auto refuses = [](auto&& change, const std::string& word) {
    Json value = to_json(two_layers());
    change(value);
    try {
      routed_texts_of(value, "texts.json");
      ADD_FAILURE() << word;
    } catch (const FormatError& error) {
      const std::string what = error.what();
      EXPECT_NE(what.find("texts.json"), std::string::npos);
      EXPECT_NE(what.find(word), std::string::npos) << what;
    }
  };
  refuses([](Json& v) { v.erase("layers"); }, "layers");
  refuses([](Json& v) { v["cards"].erase(1); }, "cards");
  refuses([](Json& v) { v["texts"][0]["routes"].erase(0); }, "one a layer");
  refuses([](Json& v) { v["texts"][0]["routes"][1].erase(0); }, "one a token");
  refuses([](Json& v) { v["texts"][0]["routes"][1][0] = {0}; }, "pairs");
  refuses([](Json& v) { v["texts"][0]["routes"][1][0] = {1, 0.5}; }, "no expert 1");
  refuses([](Json& v) { v["texts"][0]["routes"][1][0] = {0.5, 0.5}; }, "by number");
  refuses([](Json& v) { v["cards"][0][0]["tokens"][0] = {3, 3}; }, "tokens");
  refuses([](Json& v) { v["cards"][0][0]["snippets"][0] = {"a"}; }, "snippets");
}

}  // namespace
}  // namespace moekit::report
