#pragma once

#include <string>
#include <vector>

namespace moekit::report {

/// Replaces &, <, > and quotes, for text inside HTML and SVG.
std::string escape_html(const std::string& text);

/// Which of two colours cells take: what is right and what is wrong.
enum class Shades { kFirst, kSecond, kSecondBesideDiagonal };

struct HeatMap {
  std::string title;  ///< read out by screen readers
  std::vector<std::string> row_labels;
  std::vector<std::string> column_labels;
  std::vector<std::vector<double>> values;  ///< [rows][columns], 0..1 give the shade; NaN: no cell
  bool print_values = true;                 ///< percentages in the cells
  std::string column_title = {};            ///< what columns are, above their labels
  std::string value_title = {};             ///< what the percentages are of, for legends
  bool set_off_last_row = false;            ///< a sum over the others
  Shades shades = Shades::kFirst;
  /// [rows][columns] a sign before a cell's percentage, which is then printed even where it is 0;
  /// empty: none. Cells without a value have none.
  std::vector<std::vector<std::string>> marks = {};
};

/// An inline SVG with the names of rows and columns; long names of columns stand upright. Beyond 24
/// columns cells are small and names are in their tooltips alone. Colours come from the page's CSS
/// (classes "cell", "label"), so that it follows light and dark.
/// @throws ArgumentError when labels and values do not go together.
std::string heat_map_svg(const HeatMap& map);

/// Width of its picture at natural size, in pixels.
int heat_map_width(const HeatMap& map);

}  // namespace moekit::report
