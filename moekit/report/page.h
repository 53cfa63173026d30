#pragma once

#include <string>
#include <vector>

#include "moekit/core/config.h"
#include "moekit/report/png.h"
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
  bool stacked = false;  ///< filled areas on top of each other
};

/// Pictures under one caption: one data URI each, empty for none.
struct Sheet {
  std::string caption;
  std::string data_uri;
};

/// What one trained model shows.
struct ModelSection {
  std::string title;
  std::string subtitle;
  std::vector<HeatMap> heat_maps;
  std::vector<Chart> charts;
  std::vector<Sheet> sheets;
  std::vector<HeatMap> confusion;  ///< small ones, side by side
  std::string recipe;              ///< TOML
};

/// A table; numbers are right-aligned.
struct Table {
  std::vector<std::string> header;
  std::vector<std::vector<std::string>> rows;
};

struct Page {
  std::string title;
  std::string introduction;
  std::vector<std::pair<std::string, Table>> tables;
  std::vector<ModelSection> models;
};

/// One self-contained HTML page: styles, scripts (Chart.js) and pictures are inside; it opens
/// without a network, in light and dark, and fits a phone. When all charts are drawn its script
/// sets data-charts="N" on the root element.
std::string render(const Page& page);

}  // namespace moekit::report
