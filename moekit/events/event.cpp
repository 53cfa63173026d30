#include "moekit/events/event.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "events.pb.h"

namespace moekit::events {
namespace {

constexpr std::size_t kMaxListScalars = 32;  // longer lists would bury the other charts
constexpr int kMaxDepth = 32;                // of objects; lines come from files too

void add_scalar(Figures& figures, const std::string& tag, double value) {
  if (!std::isfinite(value)) return;
  constexpr double kLargest = std::numeric_limits<float>::max();
  figures.scalars.emplace_back(tag, static_cast<float>(std::clamp(value, -kLargest, kLargest)));
}

void add_list(Figures& figures, const std::string& tag, const std::string& name, const Json& list) {
  const bool numbers = !list.empty() && std::all_of(list.begin(), list.end(), [](const Json& item) {
    return item.is_number() && std::isfinite(item.get<double>());
  });
  if (!numbers) return;
  const auto values = list.get<std::vector<double>>();
  for (std::size_t i = 0; i < values.size() && values.size() <= kMaxListScalars; ++i) {
    add_scalar(figures, tag + "/" + std::to_string(i), values[i]);
  }
  if (name == "usage") figures.histograms.emplace_back(tag, load_histogram(values));
}

void add_object(Figures& figures, const std::string& prefix, const Json& object, int depth) {
  if (depth > kMaxDepth) return;
  for (const auto& [name, value] : object.items()) {
    const std::string tag = prefix.empty() ? name : prefix + "/" + name;
    if (value.is_object()) {
      add_object(figures, tag, value, depth + 1);
    } else if (value.is_array()) {
      add_list(figures, tag, name, value);
    } else if (value.is_number() && tag != "step") {
      add_scalar(figures, tag, value.get<double>());
    }
  }
}

void write_histogram(const Histogram& histogram, proto::HistogramProto& out) {
  out.set_min(histogram.min);
  out.set_max(histogram.max);
  out.set_num(histogram.num);
  out.set_sum(histogram.sum);
  out.set_sum_squares(histogram.sum_squares);
  out.mutable_bucket_limit()->Add(histogram.limits.begin(), histogram.limits.end());
  out.mutable_bucket()->Add(histogram.counts.begin(), histogram.counts.end());
}

Histogram read_histogram(const proto::HistogramProto& in) {
  return {in.min(),
          in.max(),
          in.num(),
          in.sum(),
          in.sum_squares(),
          {in.bucket_limit().begin(), in.bucket_limit().end()},
          {in.bucket().begin(), in.bucket().end()}};
}

}  // namespace

Histogram load_histogram(const std::vector<double>& loads) {
  Histogram out;
  const auto used = [](double load) { return load != 0; };
  const auto first = std::find_if(loads.begin(), loads.end(), used) - loads.begin();
  const auto end = loads.rend() - std::find_if(loads.rbegin(), loads.rend(), used);
  if (first >= end) return out;  // no load at all
  out.min = static_cast<double>(first) - 0.5;
  out.max = static_cast<double>(end) - 0.5;
  for (auto e = first; e < end; ++e) {
    const auto number = static_cast<double>(e);
    const double load = loads[static_cast<std::size_t>(e)];
    out.limits.push_back(number + 0.5);
    out.counts.push_back(load);
    out.num += load;
    out.sum += load * number;
    out.sum_squares += load * number * number;
  }
  return out;
}

Figures figures_of(const Json& line) {
  Figures figures;
  if (line.is_object()) add_object(figures, "", line, 0);
  return figures;
}

std::string encode(const Event& event) {
  proto::Event out;
  out.set_wall_time(event.wall_time);
  out.set_step(event.step);
  if (!event.file_version.empty()) out.set_file_version(event.file_version);
  if (event.session_start) out.mutable_session_log()->set_status(proto::SessionLog::START);
  if (event.figures) {
    auto& summary = *out.mutable_summary();
    for (const auto& [tag, value] : event.figures->scalars) {
      auto& item = *summary.add_value();
      item.set_tag(tag);
      item.set_simple_value(value);
    }
    for (const auto& [tag, histogram] : event.figures->histograms) {
      auto& item = *summary.add_value();
      item.set_tag(tag);
      write_histogram(histogram, *item.mutable_histo());
    }
  }
  return out.SerializeAsString();
}

std::optional<Event> decode(std::string_view bytes) {
  proto::Event in;
  if (bytes.size() > std::numeric_limits<int>::max() ||
      !in.ParseFromArray(bytes.data(), static_cast<int>(bytes.size()))) {
    return std::nullopt;
  }
  Event event{in.wall_time(), in.step(), in.file_version(),
              in.session_log().status() == proto::SessionLog::START};
  if (!in.has_summary()) return event;
  event.figures.emplace();
  for (const auto& item : in.summary().value()) {
    if (item.has_histo()) {
      event.figures->histograms.emplace_back(item.tag(), read_histogram(item.histo()));
    } else {
      event.figures->scalars.emplace_back(item.tag(), item.simple_value());
    }
  }
  return event;
}

}  // namespace moekit::events
