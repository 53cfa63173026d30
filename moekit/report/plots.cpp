#include "moekit/report/plots.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "moekit/report/page.h"
#include "moekit/report/svg.h"

namespace moekit::report {
namespace {

constexpr int kIntervalWidth = 240;
constexpr int kIntervalHeight = 24;

constexpr int kStripLabel = 260;  // room for a row's name, some 40 letters
constexpr int kStripWidth = 720;
constexpr int kStripHeight = 22;
constexpr int kAxisHeight = 24;
constexpr size_t kLabelLetters = 40;

const char* class_of(Mark mark) {
  switch (mark) {
    case Mark::kGood:
      return "good";
    case Mark::kBad:
      return "bad";
    case Mark::kOpen:
      break;
  }
  return "open";
}

/// The interval on a scale that just holds it and the middle.
std::string interval_svg(const IntervalRow& row) {
  const double low = std::isfinite(row.low) ? row.low : row.value;
  const double high = std::isfinite(row.high) ? row.high : row.value;
  const double reach = std::max(
      {std::abs(low), std::abs(high), std::abs(row.value), std::numeric_limits<double>::min()});
  const double middle = kIntervalWidth / 2.0;
  const auto x = [&](double value) { return middle + (middle - 8) * value / reach; };
  const double y = kIntervalHeight / 2.0;
  return fmt::format(
      "<svg class=\"interval {0}\" role=\"img\" aria-label=\"{1}\" width=\"{2}\" height=\"{3}\" "
      "viewBox=\"0 0 {2} {3}\"><line class=\"zero\" x1=\"{4:.1f}\" x2=\"{4:.1f}\" y1=\"0\" "
      "y2=\"{3}\"/><line class=\"range\" x1=\"{5:.1f}\" x2=\"{6:.1f}\" y1=\"{7:.1f}\" "
      "y2=\"{7:.1f}\"/><circle cx=\"{8:.1f}\" cy=\"{7:.1f}\" r=\"4\"/></svg>",
      class_of(row.mark), escape_html(row.verdict), kIntervalWidth, kIntervalHeight, middle, x(low),
      x(high), y, x(row.value));
}

/// Cut where it is too long, between letters and not inside one.
std::string short_label(const std::string& label) {
  if (label.size() <= kLabelLetters) return label;
  size_t end = kLabelLetters - 1;
  while (end > 0 && (static_cast<unsigned char>(label[end]) & 0xc0) == 0x80) --end;
  return label.substr(0, end) + "…";
}

struct Scale {
  double low = std::numeric_limits<double>::infinity();
  double high = -std::numeric_limits<double>::infinity();

  void take(double value) {
    low = std::min(low, value);
    high = std::max(high, value);
  }
  double x(double value) const {
    const double width = kStripWidth - kStripLabel - 24;
    const double share = high > low ? (value - low) / (high - low) : 0.5;
    return kStripLabel + 12 + width * share;
  }
};

std::string bar(const char* kind, double x, int y, const std::string& title) {
  return fmt::format(
      "<line class=\"{}\" x1=\"{:.1f}\" x2=\"{:.1f}\" y1=\"{}\" y2=\"{}\"><title>{}</title></line>",
      kind, x, x, y + 3, y + kStripHeight - 3, escape_html(title));
}

std::string strip_svg(const Strip& strip, const Scale& scale, int y) {
  std::string out = fmt::format(
      "<text class=\"label\" text-anchor=\"end\" x=\"{}\" y=\"{}\">{}<title>{}</title></text>",
      kStripLabel - 8, y + 15, escape_html(short_label(strip.label)), escape_html(strip.label));
  if (strip.paper) {
    out += bar("paper", scale.x(*strip.paper), y, "paper: " + short_number(*strip.paper));
  }
  if (strip.reference) {
    out += bar("reference", scale.x(*strip.reference), y,
               "reference: " + short_number(*strip.reference));
  }
  for (const double value : strip.values) {
    out += fmt::format(
        "<circle class=\"seed\" cx=\"{:.1f}\" cy=\"{}\" r=\"4\"><title>{}</title>"
        "</circle>",
        scale.x(value), y + kStripHeight / 2, short_number(value));
  }
  return out;
}

}  // namespace

std::string interval_plot_html(const IntervalPlot& plot) {
  std::string out = fmt::format(
      "<div class=\"scroll\" role=\"region\" tabindex=\"0\" aria-label=\"{0}\"><table "
      "class=\"forest\"><thead><tr><th>claim</th><th>{1} ← 0 → {2}</th><th>verdict</th></tr>"
      "</thead><tbody>",
      escape_html(plot.title), escape_html(plot.left), escape_html(plot.right));
  std::string before;
  for (const auto& row : plot.rows) {
    const std::string name = row.claim == before ? "" : "<b>" + escape_html(row.claim) + "</b><br>";
    out += fmt::format(
        "<tr><td class=\"text\">{}<span>{}</span></td><td>{}</td><td class=\"text "
        "{}\">{}</td></tr>",
        name, escape_html(row.comparison), interval_svg(row), class_of(row.mark),
        escape_html(row.verdict));
    before = row.claim;
  }
  return out + "</tbody></table></div>";
}

std::string strip_plot_svg(const StripPlot& plot) {
  Scale scale;
  for (const auto& strip : plot.strips) {
    for (const double value : strip.values) scale.take(value);
    if (strip.paper) scale.take(*strip.paper);
    if (strip.reference) scale.take(*strip.reference);
  }
  const int height = static_cast<int>(plot.strips.size()) * kStripHeight + kAxisHeight;
  std::string out = fmt::format(
      "<svg class=\"strips\" role=\"img\" aria-label=\"{0}\" width=\"{1}\" height=\"{2}\" "
      "viewBox=\"0 0 {1} {2}\">",
      escape_html(plot.title), kStripWidth, height);
  int y = 0;
  for (const auto& strip : plot.strips) {
    out += strip_svg(strip, scale, y);
    y += kStripHeight;
  }
  if (scale.low <= scale.high) {
    out += fmt::format(
        "<line class=\"axis\" x1=\"{}\" x2=\"{}\" y1=\"{}\" y2=\"{}\"/>"
        "<text class=\"small\" x=\"{}\" y=\"{}\">{}</text>"
        "<text class=\"small\" text-anchor=\"end\" x=\"{}\" y=\"{}\">{}</text>",
        kStripLabel, kStripWidth, y + 2, y + 2, kStripLabel, y + 16, short_number(scale.low),
        kStripWidth, y + 16, short_number(scale.high));
  }
  return out + "</svg>";
}

}  // namespace moekit::report
