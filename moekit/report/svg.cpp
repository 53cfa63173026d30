#include "moekit/report/svg.h"

#include <fmt/format.h>

#include <algorithm>

#include "moekit/core/error.h"

namespace moekit::report {
namespace {
constexpr int kCell = 36;  // pixels
constexpr int kHeaderHeight = 22;
constexpr int kCharWidth = 7;  // of the labels, about
}  // namespace

std::string escape_html(const std::string& text) {
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
  MOEKIT_CHECK(map.values.size() == map.row_labels.size(), "heat_map_svg: ", map.values.size(),
               " rows, ", map.row_labels.size(), " labels");
  std::size_t longest = 0;
  for (const auto& label : map.row_labels) longest = std::max(longest, label.size());
  const int cell_height = map.print_values ? 24 : 12;
  const int cell_width = map.print_values ? kCell : 12;
  const int left = map.print_values ? static_cast<int>(longest) * kCharWidth + 12 : 0;
  const int top = map.print_values ? kHeaderHeight : 0;
  const int width = left + cell_width * static_cast<int>(map.column_labels.size());
  const int height = top + cell_height * static_cast<int>(map.row_labels.size());
  std::string out = fmt::format(
      "<svg class=\"heat\" role=\"img\" aria-label=\"{}\" viewBox=\"0 0 {} {}\" width=\"{}\" "
      "height=\"{}\">",
      escape_html(map.title), width, height, width, height);
  for (std::size_t c = 0; map.print_values && c < map.column_labels.size(); ++c) {
    out += fmt::format("<text class=\"label\" text-anchor=\"middle\" x=\"{}\" y=\"15\">{}</text>",
                       left + cell_width * static_cast<int>(c) + cell_width / 2,
                       escape_html(map.column_labels[c]));
  }
  for (std::size_t r = 0; r < map.values.size(); ++r) {
    MOEKIT_CHECK(map.values[r].size() == map.column_labels.size(), "heat_map_svg: row ", r, " has ",
                 map.values[r].size(), " values for ", map.column_labels.size(), " columns");
    const int y = top + cell_height * static_cast<int>(r);
    if (map.print_values) {
      out += fmt::format("<text class=\"label\" text-anchor=\"end\" x=\"{}\" y=\"{}\">{}</text>",
                         left - 6, y + 16, escape_html(map.row_labels[r]));
    }
    for (std::size_t c = 0; c < map.values[r].size(); ++c) {
      const double value = std::clamp(map.values[r][c], 0.0, 1.0);
      const int x = left + cell_width * static_cast<int>(c);
      out += fmt::format(
          "<g><title>{}, {}: {:.1f} %</title><rect class=\"back\" x=\"{}\" y=\"{}\" width=\"{}\" "
          "height=\"{}\"/><rect class=\"cell\" x=\"{}\" y=\"{}\" width=\"{}\" height=\"{}\" "
          "fill-opacity=\"{:.3f}\"/>",
          escape_html(map.row_labels[r]), escape_html(map.column_labels[c]), 100 * value, x, y,
          cell_width - 1, cell_height - 1, x, y, cell_width - 1, cell_height - 1, value);
      if (map.print_values && value >= 0.005) {
        out +=
            fmt::format("<text class=\"{}\" text-anchor=\"middle\" x=\"{}\" y=\"{}\">{:.0f}</text>",
                        value > 0.55 ? "on" : "off", x + cell_width / 2, y + 16, 100 * value);
      }
      out += "</g>";
    }
  }
  return out + "</svg>";
}

}  // namespace moekit::report
