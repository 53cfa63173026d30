#pragma once

#include <optional>
#include <string>
#include <vector>

/// Pictures of figures over seeds, as inline SVG that takes its colours from the page's CSS.
namespace moekit::report {

/// How a comparison came out.
enum class Mark { kGood, kBad, kOpen };

/// A comparison: an effect, its interval, and on which side of nothing it was claimed to lie.
struct IntervalRow {
  std::string claim;
  std::string comparison;
  double value = 0;
  double low = 0;  ///< may be infinite, as `high`
  double high = 0;
  Mark mark = Mark::kOpen;
  std::string verdict;  ///< in words, with numbers
};

/// A forest plot: comparisons below each other, each on a scale of its own.
struct IntervalPlot {
  std::string title;
  std::string left;  ///< what lies left of the middle
  std::string right;
  std::vector<IntervalRow> rows;
};

/// An HTML table: what is claimed, the interval as a picture, how it came out. Claims that take
/// several rows are named once.
std::string interval_plot_html(const IntervalPlot& plot);

/// One row of a strip plot.
struct Strip {
  std::string label;
  std::vector<double> values;  ///< one a seed, finite
  std::optional<double> paper = {};
  std::optional<double> reference = {};
};

/// Every seed of every row as a dot on one common scale, with the paper's value as a bar and the
/// reference's as a dashed one.
struct StripPlot {
  std::string title;
  std::vector<Strip> strips;
};

/// An inline SVG; labels longer than its margin are cut, and whole in their tooltips.
std::string strip_plot_svg(const StripPlot& plot);

}  // namespace moekit::report
