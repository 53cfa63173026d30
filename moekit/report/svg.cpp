#include "moekit/report/svg.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "moekit/core/error.h"
#include "moekit/core/json.h"

namespace moekit::report {
namespace {

constexpr int kCharWidth = 7;       // of the labels at 12 pixels, about
constexpr int kSmallCharWidth = 6;  // at 10 pixels
constexpr int kMaxNamedColumns = 24;

/// Where things stand, in pixels.
struct Layout {
  bool names = true;     ///< of rows and columns
  bool upright = false;  ///< names of columns
  int cell_width = 0;
  int cell_height = 0;
  int left = 0;
  int title = 0;  ///< height of the columns' title
  int top = 0;
  int gap = 0;  ///< before the last row
  int width = 0;
  int height = 0;
};

int longest_of(const std::vector<std::string>& labels) {
  std::size_t longest = 0;
  for (const auto& label : labels) longest = std::max(longest, label.size());
  return static_cast<int>(longest);
}

Layout layout_of(const HeatMap& map) {
  const int rows = static_cast<int>(map.row_labels.size());
  const int columns = static_cast<int>(map.column_labels.size());
  Layout at;
  at.names = map.print_values || columns <= kMaxNamedColumns;
  at.cell_width = map.print_values ? 34 : at.names ? 14 : 6;
  at.cell_height = map.print_values ? 22 : at.names ? 14 : 6;
  const int longest = longest_of(map.column_labels);
  at.upright = longest * kCharWidth > at.cell_width;
  if (at.names) {
    const int char_width = map.print_values ? kCharWidth : kSmallCharWidth;
    at.left = longest_of(map.row_labels) * char_width + 10;
    at.title = map.column_title.empty() ? 0 : 16;
    at.top = at.title + (at.upright ? longest * char_width + 6 : 18);
  }
  at.gap = map.set_off_last_row ? 5 : 0;
  at.width =
      at.left + std::max(at.cell_width * columns,
                         at.names ? static_cast<int>(map.column_title.size()) * kCharWidth : 0);
  at.height = at.top + at.cell_height * rows + at.gap;
  return at;
}

std::string column_names(const HeatMap& map, const Layout& at) {
  std::string out;
  const int columns = static_cast<int>(map.column_labels.size());
  if (at.title > 0) {
    out += fmt::format("<text class=\"axis\" text-anchor=\"middle\" x=\"{}\" y=\"11\">{}</text>",
                       at.left + at.cell_width * columns / 2, escape_html(map.column_title));
  }
  for (int c = 0; c < columns; ++c) {
    const int x = at.left + at.cell_width * c + at.cell_width / 2;
    const std::string place =
        at.upright ? fmt::format("transform=\"translate({} {}) rotate(-90)\"", x + 4, at.top - 4)
                   : fmt::format("text-anchor=\"middle\" x=\"{}\" y=\"{}\"", x, at.top - 5);
    out += fmt::format("<text class=\"{}\" {}>{}</text>", map.print_values ? "label" : "small",
                       place, escape_html(map.column_labels[static_cast<std::size_t>(c)]));
  }
  return out;
}

std::string cell_svg(const HeatMap& map, const Layout& at, std::size_t r, std::size_t c, int y) {
  // Where a shade turns dark (on light) or bright (on dark), text of the other colour reads better.
  constexpr double kTextTurns = 0.63;
  const int x = at.left + at.cell_width * static_cast<int>(c);
  std::string out =
      fmt::format("<g><rect class=\"back\" x=\"{}\" y=\"{}\" width=\"{}\" height=\"{}\"/>", x, y,
                  at.cell_width - 1, at.cell_height - 1);
  if (std::isnan(map.values[r][c])) return out + "</g>";
  const double value = std::clamp(map.values[r][c], 0.0, 1.0);
  const bool second =
      map.shades == Shades::kSecond || (map.shades == Shades::kSecondBesideDiagonal && r != c);
  out += fmt::format(
      "<title>{}, {}{}: {:.1f} %</title><rect class=\"{}\" x=\"{}\" y=\"{}\" width=\"{}\" "
      "height=\"{}\" fill-opacity=\"{:.3f}\"/>",
      escape_html(map.row_labels[r]),
      map.column_title.empty() ? "" : escape_html(map.column_title) + " ",
      escape_html(map.column_labels[c]), 100 * value, second ? "cell wrong" : "cell", x, y,
      at.cell_width - 1, at.cell_height - 1, value);
  const std::string mark = map.marks.empty() ? std::string() : map.marks[r][c];
  if (const auto percent = std::lround(100 * value);
      map.print_values && (percent > 0 || !mark.empty())) {
    out += fmt::format("<text class=\"{}\" text-anchor=\"middle\" x=\"{}\" y=\"{}\">{}{}</text>",
                       value > kTextTurns ? "on" : "off", x + at.cell_width / 2, y + 15,
                       escape_html(mark), percent);
  }
  return out + "</g>";
}

}  // namespace

std::string escape_html(const std::string& text) {
  // Names of folders may be any bytes; the page is UTF-8.
  if (!is_utf8(text)) return escape_html(Json::parse(dump_text(text)).get<std::string>());
  std::string out;
  for (const char c : text) {
    switch (c) {
      case '&':
        out += "&amp;";
        break;
      case '<':
        out += "&lt;";
        break;
      case '>':
        out += "&gt;";
        break;
      case '"':
        out += "&quot;";
        break;
      case '\'':
        out += "&#39;";
        break;
      default:
        out += c;
    }
  }
  return out;
}

std::string heat_map_svg(const HeatMap& map) {
  MOEKIT_CHECK(map.marks.empty() || map.marks.size() == map.values.size(),
               "heat_map_svg: ", map.marks.size(), " rows of marks for ", map.values.size());
  MOEKIT_CHECK(map.values.size() == map.row_labels.size(), "heat_map_svg: ", map.values.size(),
               " rows, ", map.row_labels.size(), " labels");
  const Layout at = layout_of(map);
  std::string out = fmt::format(
      "<svg class=\"heat\" style=\"--width: {0}px\" role=\"img\" aria-label=\"{2}\" "
      "viewBox=\"0 0 {0} {1}\" width=\"{0}\" height=\"{1}\">",
      at.width, at.height, escape_html(map.title));
  if (at.names) out += column_names(map, at);
  for (std::size_t r = 0; r < map.values.size(); ++r) {
    MOEKIT_CHECK(map.values[r].size() == map.column_labels.size(), "heat_map_svg: row ", r, " has ",
                 map.values[r].size(), " values for ", map.column_labels.size(), " columns");
    const int y =
        at.top + at.cell_height * static_cast<int>(r) + (r + 1 == map.values.size() ? at.gap : 0);
    if (at.names) {
      out += fmt::format("<text class=\"{}\" text-anchor=\"end\" x=\"{}\" y=\"{}\">{}</text>",
                         map.print_values ? "label" : "small", at.left - 6,
                         y + (map.print_values ? 15 : 10), escape_html(map.row_labels[r]));
    }
    for (std::size_t c = 0; c < map.values[r].size(); ++c) out += cell_svg(map, at, r, c, y);
  }
  return out + "</svg>";
}

int heat_map_width(const HeatMap& map) { return layout_of(map).width; }

}  // namespace moekit::report
