#pragma once

#include <string>
#include <vector>

namespace moekit::report {

/// Replaces &, <, > and quotes, for text inside HTML and SVG.
std::string escape_html(const std::string& text);

struct HeatMap {
  std::string title;  ///< read out by screen readers
  std::vector<std::string> row_labels;
  std::vector<std::string> column_labels;
  std::vector<std::vector<double>> values;  ///< [rows][columns], 0..1 give the shade
  bool print_values = true;                 ///< percentages in the cells
};

/// An inline SVG; colours come from the page's CSS (classes "cell", "label"), so that it follows
/// light and dark. @throws ArgumentError when labels and values do not go together.
std::string heat_map_svg(const HeatMap& map);

}  // namespace moekit::report
