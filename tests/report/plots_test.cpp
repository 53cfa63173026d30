#include "moekit/report/plots.h"

#include <gtest/gtest.h>

#include <limits>

namespace moekit::report {
namespace {

size_t count(const std::string& text, const std::string& part) {
  size_t n = 0;
  for (size_t at = text.find(part); at != std::string::npos; at = text.find(part, at + 1)) ++n;
  return n;
}

TEST(IntervalPlot, ShowsEachComparisonOnItsOwnScale) {
  const IntervalPlot plot{"t",
                          "as claimed",
                          "against",
                          {{"a < b", "x < y", -2, -4, 0, Mark::kGood, "held"},
                           {"a < b", "x < z", 1, -1, 2, Mark::kOpen, "undecided"},
                           {"<c>", "u", 1000, 1000, 1000, Mark::kBad, "contradicted"}}};
  const auto html = interval_plot_html(plot);
  EXPECT_EQ(count(html, "<tr><td"), 3U);
  EXPECT_EQ(count(html, "<b>a &lt; b</b>"), 1U);  // named once
  EXPECT_NE(html.find("&lt;c&gt;"), std::string::npos);
  // The middle lies at 120; an end at the widest reach 8 pixels from the border.
  EXPECT_NE(html.find("x1=\"8.0\" x2=\"120.0\""), std::string::npos) << html;
  EXPECT_NE(html.find("<circle cx=\"64.0\""), std::string::npos);
  EXPECT_NE(html.find("x1=\"232.0\" x2=\"232.0\""), std::string::npos);
  EXPECT_EQ(count(html, "interval good"), 1U);
  EXPECT_EQ(count(html, "interval open"), 1U);
  EXPECT_EQ(count(html, "interval bad"), 1U);
}

TEST(IntervalPlot, OfOneSeedHasNoEnds) {
  const double inf = std::numeric_limits<double>::infinity();
  const auto html =
      interval_plot_html({"t", "l", "r", {{"a", "b", 3, -inf, inf, Mark::kOpen, ""}}});
  EXPECT_EQ(html.find("inf"), std::string::npos);
  EXPECT_EQ(html.find("nan"), std::string::npos);
  EXPECT_EQ(interval_plot_html({"t", "l", "r", {{"a", "b", 0, 0, 0, Mark::kOpen, ""}}}).find("nan"),
            std::string::npos);
}

TEST(StripPlot, ShowsEverySeedOnACommonScale) {
  const StripPlot plot{"error", {{"row <a>", {1, 2}, 3.0, {}}, {"b", {5}, {}, 1.0}}};
  const auto svg = strip_plot_svg(plot);
  EXPECT_EQ(count(svg, "class=\"seed\""), 3U);
  EXPECT_EQ(count(svg, "class=\"paper\""), 1U);
  EXPECT_EQ(count(svg, "class=\"reference\""), 1U);
  EXPECT_NE(svg.find("row &lt;a&gt;"), std::string::npos);
  EXPECT_NE(svg.find(">1.0000</text>"), std::string::npos);  // the axis' ends
  EXPECT_NE(svg.find(">5.0000</text>"), std::string::npos);
  // 1 lies at 272, 5 at 708, 3 in the middle.
  EXPECT_NE(svg.find("cx=\"272.0\""), std::string::npos);
  EXPECT_NE(svg.find("cx=\"708.0\""), std::string::npos);
  EXPECT_NE(svg.find("class=\"paper\" x1=\"490.0\""), std::string::npos) << svg;
}

TEST(StripPlot, CutsLongLabelsBetweenLetters) {
  std::string label;
  for (int i = 0; i < 40; ++i) label += "é";
  const auto svg = strip_plot_svg({"t", {{label, {1}}}});
  EXPECT_NE(svg.find("é…<title>" + label), std::string::npos);
  EXPECT_NE(strip_plot_svg({"t", {{"one", {1}}}}).find("cx=\"490.0\""), std::string::npos);
}

}  // namespace
}  // namespace moekit::report
