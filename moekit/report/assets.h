#pragma once

#include <string_view>

/// Files that are compiled in: the page's own style and script, and Chart.js (MIT licence) from
/// Debian's libjs-chart.js.
namespace moekit::report::assets {

std::string_view page_css();
std::string_view page_js();
std::string_view chart_js();

}  // namespace moekit::report::assets
