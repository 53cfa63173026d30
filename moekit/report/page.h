#pragma once

#include <string>
#include <vector>

#include "moekit/core/config.h"
#include "moekit/core/statistics.h"
#include "moekit/report/plots.h"
#include "moekit/report/png.h"
#include "moekit/report/routed_text.h"
#include "moekit/report/svg.h"

namespace moekit::report {

/// One line of a chart.
struct Series {
  std::string name;
  std::vector<double> values;  ///< one an x
};
struct Chart {
  std::string title;
  std::string x_title;
  std::vector<double> x;
  std::vector<Series> series;
  bool stacked = false;  ///< filled areas on top of each other, up to 1
  std::string y_title = {};
};

/// Pictures under one caption: one data URI each, empty for none.
struct Sheet {
  std::string caption;
  std::string data_uri;
};

/// What one trained model shows: a picture that is compared with those of the other models, and
/// the rest, folded below.
struct ModelSection {
  std::string title;
  std::string subtitle;  ///< the figures that matter, in a few words
  std::string shows;     ///< what its pictures show, a clause for the page's first sentence
  std::vector<HeatMap> overview_maps;
  std::vector<Chart> overview_charts;
  std::string place;  ///< where the run lies
  std::vector<HeatMap> heat_maps;
  std::vector<Chart> charts;
  std::vector<Sheet> sheets;
  RoutedTexts texts;
  std::vector<HeatMap> confusion;  ///< small ones, side by side
  std::string confusion_text;      ///< how to read them
  std::string recipe;              ///< TOML
};

/// A table; numbers are right-aligned.
struct Table {
  std::vector<std::string> header;
  std::vector<std::vector<std::string>> rows;
};

/// "0.1234", or "1.2e-05" where four digits behind the point would show nothing.
std::string short_number(double value);

/// A figure over seeds: "0.0942 ± 0.0012"; of one seed no spread is known: "0.0942". Empty for
/// none.
std::string figure_text(const Summary& figure);

struct Page {
  std::string title;
  std::string lead;  ///< what is to be seen, and what was found
  std::vector<std::pair<std::string, Table>> tables;
  std::string legend;   ///< of the first table
  IntervalPlot claims;  ///< drawn where it has rows
  std::string claims_text;
  std::vector<StripPlot> seeds;  ///< folded
  std::vector<ModelSection> models;
};

/// One self-contained HTML page: the models' pictures side by side, the tables, then each model,
/// folded unless it is the only one. Styles, scripts (Chart.js) and pictures are inside; it opens
/// without a network, in light and dark, and fits a phone. Charts are drawn when they are first
/// seen, and the page's address with #all unfolds all models, as printing does; data-charts="N" on
/// the root element counts those that are drawn.
std::string render(const Page& page);

}  // namespace moekit::report
