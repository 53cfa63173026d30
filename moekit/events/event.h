#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "moekit/core/config.h"

namespace moekit::events {

/// Counts in buckets: bucket i holds values up to limits[i], and above limits[i - 1].
struct Histogram {
  double min = 0;
  double max = 0;
  double num = 0;  ///< sum of the counts
  double sum = 0;
  double sum_squares = 0;
  std::vector<double> limits;
  std::vector<double> counts;
  bool operator==(const Histogram&) const = default;
};

/// What TensorBoard shows of one step: figures and histograms by tag.
struct Figures {
  std::vector<std::pair<std::string, float>> scalars;
  std::vector<std::pair<std::string, Histogram>> histograms;
  bool operator==(const Figures&) const = default;
};

/// The loads of experts as a histogram over their numbers: expert e is the bucket from e - 1/2 to
/// e + 1/2, so that each is a bar of its own. From the first to the last that has any load:
/// TensorBoard takes `min` and `max` for the outer edges.
Histogram load_histogram(const std::vector<double>& loads);

/// A line of metrics: every finite number is a scalar whose tag is its place ("test/error"), so is
/// each number of a list of at most 32 ("test/layers/moe/usage/0"); lists named "usage" are also
/// histograms of expert loads ("test/layers/moe/usage"). "step" is left out, as are text and
/// tables.
Figures figures_of(const Json& line);

/// A message of an event file.
struct Event {
  double wall_time = 0;  ///< seconds since 1970
  std::int64_t step = 0;
  std::string file_version = {};  ///< "brain.Event:2" in a file's first event, else empty
  bool session_start = false;     ///< what was written for this step and later ones is void
  std::optional<Figures> figures = {};
};

/// The message's bytes.
std::string encode(const Event& event);
/// Nothing for bytes that are no such message.
std::optional<Event> decode(std::string_view bytes);

}  // namespace moekit::events
