#include <fmt/format.h>

#include <cmath>

#include "cli/command.h"
#include "cli/print.h"
#include "moekit/core/schema.h"
#include "moekit/tasks/tasks.h"

namespace moekit::cli {
namespace {

/// "0+3+5", of a group's experts.
std::string group_text(const Json& group) {
  std::string text;
  for (const auto& expert : group["experts"]) {
    text += (text.empty() ? "" : "+") + std::to_string(expert.get<int64_t>());
  }
  return text;
}

void print_layer(const Json& layer) {
  fmt::print("\nlayer {}: {} experts become {}\n", layer["name"].get<std::string>(),
             layer["experts"].get<int64_t>(), layer["groups"].size());
  std::string groups;
  for (const auto& group : layer["groups"]) groups += "  " + group_text(group);
  fmt::print("  {:32}{}\n", "groups, most used expert first", groups);
  const Json& error = layer["output_error"];
  if (!error.is_number() || std::isnan(error.get<double>())) {
    fmt::print("  {:32}  not known: its tokens share a gate, or it gave zeros alone\n",
               "relative error of its outputs");
  } else {
    fmt::print("  {:32}  {:.4f} merged, {:.4f} with the others left out\n",
               "relative error of its outputs", figure_value(layer["output_error"]),
               figure_value(layer["output_error_representatives"]));
  }
}

/// One figure of the three models; a layer's where `layer` is given.
void print_figure(const Json& report, const char* title, const char* key,
                  const std::string& layer = {}) {
  fmt::print("  {:32}", title);
  for (const char* which : {"before", "after", "representatives_alone"}) {
    const Json& test = report[which]["test"];
    const Json& values = layer.empty() ? test : test["layers"][layer];
    // Plus zero: an entropy of none may be a negative zero.
    const double value = values.contains(key) ? figure_value(values[key]) + 0.0 : std::nan("");
    fmt::print("{:>12}", std::isnan(value) ? std::string("-") : fmt::format("{:.4f}", value));
  }
  fmt::print("\n");
}

}  // namespace

int run(const MergeFlags& flags) {
  note_unchecked(flags.run);
  const Json report =
      tasks::of_run(flags.run).merge(flags.run, flags.data, flags.options, flags.output);
  if (flags.json) {
    fmt::print("{}\n", dump_text(report, 2));
    return 0;
  }
  fmt::print("{}: calibrated on {} training samples\n", flags.run,
             report["samples"].get<int64_t>());
  for (const auto& layer : report["layers"]) print_layer(layer);
  fmt::print("\n  {:32}{:>12}{:>12}{:>12}\n", "on the test set", "before", "merged", "left out");
  print_figure(report, "error", "error");
  print_figure(report, "loss", "loss");
  for (const auto& layer : report["layers"]) {
    const std::string name = layer["name"];
    print_figure(report, (name + ": I(E;Y), bit").c_str(), "mutual_information", name);
    print_figure(report, (name + ": H_s, bit").c_str(), "sample_entropy", name);
    print_figure(report, (name + ": H_u, bit").c_str(), "usage_entropy", name);
  }
  for (const char* what : {"parameters", "bytes"}) {
    const auto before = report["before"][what].get<int64_t>();
    const auto after = report["after"][what].get<int64_t>();
    fmt::print("  {:32}{:>12}{:>12}   {:.1f} % less\n", what, before, after,
               100 * (1 - static_cast<double>(after) / static_cast<double>(before)));
  }
  fmt::print("{}\n", flags.output);
  return 0;
}

}  // namespace moekit::cli
