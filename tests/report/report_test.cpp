#include <gtest/gtest.h>
#include <png.h>

#include <limits>

#include "moekit/core/error.h"
#include "moekit/report/page.h"

namespace moekit::report {
namespace {

TEST(Png, DecodesBackToThePixels) {
  const Bitmap bitmap{2, 2, 3, {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12}};
  const std::string bytes = encode_png(bitmap);
  png_image image{};
  image.version = PNG_IMAGE_VERSION;
  ASSERT_TRUE(png_image_begin_read_from_memory(&image, bytes.data(), bytes.size()));
  image.format = PNG_FORMAT_RGB;
  std::vector<uint8_t> pixels(PNG_IMAGE_SIZE(image));
  ASSERT_TRUE(png_image_finish_read(&image, nullptr, pixels.data(), 0, nullptr));
  EXPECT_EQ(pixels, bitmap.pixels);
  EXPECT_THROW(encode_png({2, 2, 1, {1}}), ArgumentError);
}

TEST(ContactSheet, PutsTilesSideBySideWithAPixelBetween) {
  const Bitmap tile{1, 1, 1, {9}};
  const auto sheet = contact_sheet({tile, tile, tile}, 2, 5);
  EXPECT_EQ(sheet.width, 3);
  EXPECT_EQ(sheet.height, 3);
  EXPECT_EQ(sheet.pixels, (std::vector<uint8_t>{9, 5, 9, 5, 5, 5, 9, 5, 5}));
  EXPECT_THROW(contact_sheet({}, 2), ArgumentError);
}

TEST(EscapeHtml, GivesUtf8WhateverComes) {
  EXPECT_EQ(escape_html("a<b>&\"c\""), "a&lt;b&gt;&amp;&quot;c&quot;");
  EXPECT_EQ(escape_html("b\xff<"), "b\xef\xbf\xbd&lt;");
}

TEST(HeatMapSvg, HasACellForEachValueAndEscapesLabels) {
  const auto svg = heat_map_svg({"t", {"a<b"}, {"x", "y"}, {{0.25, 1.0}}, true});
  EXPECT_NE(svg.find("a&lt;b"), std::string::npos);
  EXPECT_NE(svg.find("fill-opacity=\"0.250\""), std::string::npos);
  EXPECT_NE(svg.find(">100<"), std::string::npos);
  EXPECT_THROW(heat_map_svg({"t", {"a"}, {"x", "y"}, {{0.25}}, true}), ArgumentError);
}

TEST(HeatMapSvg, NamesRowsAndColumnsOfSmallCellsToo) {
  HeatMap map{"t",   {"coat", "shirt"}, {"coat", "shirt"}, {{0.9, 0.1}, {0.4, 0.6}},
              false, "taken for"};
  map.shades = Shades::kSecondBesideDiagonal;
  const auto svg = heat_map_svg(map);
  EXPECT_NE(svg.find(">taken for<"), std::string::npos);
  size_t names = 0;
  for (size_t at = 0; (at = svg.find(">coat<", at)) != std::string::npos; ++at) ++names;
  EXPECT_EQ(names, 2U);  // a row and a column
  EXPECT_NE(svg.find("rotate(-90)"), std::string::npos);
  // Right on the diagonal, wrong beside it.
  EXPECT_NE(svg.find("<title>shirt, taken for coat: 40.0 %</title><rect class=\"cell wrong\""),
            std::string::npos);
  EXPECT_NE(svg.find("<title>shirt, taken for shirt: 60.0 %</title><rect class=\"cell\""),
            std::string::npos);
}

TEST(HeatMapSvg, LeavesCellsWithoutValueEmpty) {
  const auto svg =
      heat_map_svg({"t", {"a"}, {"x", "y"}, {{std::numeric_limits<double>::quiet_NaN(), 0.5}}});
  EXPECT_EQ(svg.find("nan"), std::string::npos);
  EXPECT_EQ(svg.find("a, x"), std::string::npos);
  EXPECT_NE(svg.find("a, y: 50.0 %"), std::string::npos);
}

TEST(FigureText, KnowsNoSpreadOfOneSeed) {
  EXPECT_EQ(figure_text(summarize({})), "");
  EXPECT_EQ(figure_text(summarize({0.25})), "0.2500");
  // Mean 2, deviation sqrt(((1 - 2)^2 + 0 + (3 - 2)^2) / 2) = 1.
  EXPECT_EQ(figure_text(summarize({1, 2, 3})), "2.0000 ± 1.0000");
}

ModelSection section(const std::string& title) {
  ModelSection out;
  out.title = title;
  out.overview_maps.push_back({"map", {"a"}, {"x"}, {{0.5}}, true, "expert", "of all"});
  out.charts.push_back({"c", "epoch", {1, 2}, {{"s", {1, 2}}}, false, "bit"});
  out.recipe = "a = 1";
  return out;
}

TEST(Render, ShowsPicturesFirstThenFiguresThenDetailsFolded) {
  Page page;
  page.lead = "What was found";
  page.tables.emplace_back("Figures", Table{{"h"}, {{"1"}}});
  page.models = {section("one"), section("two")};
  const std::string html = render(page);
  const size_t lead = html.find("What was found");
  const size_t map = html.find("class=\"heat\"");
  const size_t table = html.find("<table>");
  const size_t details = html.find("<details class=\"model\">");
  const size_t canvas = html.find("<canvas");
  EXPECT_LT(lead, map);
  EXPECT_LT(map, table);
  EXPECT_LT(table, details);
  EXPECT_LT(details, canvas);
  EXPECT_NE(canvas, std::string::npos);
  EXPECT_NE(html.find("100 % of all"), std::string::npos);
  EXPECT_NE(html.find("\"yTitle\":\"bit\""), std::string::npos);
  page.models.pop_back();  // the only one is open
  EXPECT_NE(render(page).find("<details class=\"model\" open>"), std::string::npos);
}

TEST(Render, IsOnePageWithoutOutsideAddressesAndSafeAgainstNames) {
  Page page;
  page.title = "</script><b>";
  page.tables.emplace_back("t", Table{{"h"}, {{"<i>"}}});
  page.lead = "<i>";
  page.legend = "<i>";
  page.models.push_back(section("<i>"));
  page.models[0].charts[0].series[0].name = "</script>";
  page.models[0].subtitle = page.models[0].place = page.models[0].confusion_text = "<i>";
  page.models[0].confusion.push_back({"<i>", {"<i>"}, {"<i>"}, {{1}}, false, "<i>"});
  const std::string html = render(page);
  EXPECT_EQ(html.find("<i>"), std::string::npos);
  EXPECT_NE(html.find("\\u003c/script>"), std::string::npos);
  for (const char* outside : {"src=\"http", "href=\"http", "@import", "url(http"}) {
    EXPECT_EQ(html.find(outside), std::string::npos) << outside;
  }
}

}  // namespace
}  // namespace moekit::report
