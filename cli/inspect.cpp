#include <fmt/format.h>

#include <cmath>

#include "cli/command.h"
#include "cli/print.h"
#include "moekit/core/schema.h"
#include "moekit/tasks/tasks.h"

namespace moekit::cli {
namespace {

void print_row(const std::string& name, const Json& values, const char* format) {
  fmt::print("  {:24}", name);
  for (const auto& value : values) fmt::print(fmt::runtime(format), figure_value(value));
  fmt::print("\n");
}

/// A mean that may have no value, which is NaN and in JSON text null.
std::string mean_text(const Json& value) {
  const bool there = value.is_number() && !std::isnan(value.get<double>());
  return there ? fmt::format("{:.3f}", value.get<double>()) : "without a value";
}

void print_outputs(const Json& layer) {
  const auto& regret = layer["routing_regret"];
  fmt::print("  {:24} {:.3f} (random {:.3f})\n", "routing regret", regret["chosen"].get<double>(),
             regret["random_baseline"].get<double>());
  const auto& kept = layer["subset_retention"];
  const auto subsets = kept["baseline_subsets"].get<int64_t>();
  fmt::print(
      "  {:24} accuracy {:.3f} with each class's best {} expert(s), {:.3f} with all, "
      "{:.3f} random ({} {})\n",
      "subset retention", kept["accuracy_kept"].get<double>(), kept["experts_kept"].get<int64_t>(),
      kept["accuracy_all"].get<double>(), kept["random_baseline"].get<double>(),
      kept["baseline_exact"].get<bool>() ? "all subsets:" : "subsets drawn:", subsets);
  const auto left_out = layer["output_cka_left_out"].get<int64_t>();
  fmt::print("  {:24} {} ({} estimator, random {}){}\n", "output similarity, CKA",
             mean_text(layer["output_cka_mean"]), layer["output_cka_estimator"].get<std::string>(),
             mean_text(layer["output_cka_baseline"]),
             left_out == 0
                 ? ""
                 : fmt::format("; {} pair(s) left out: an expert's outputs do not vary", left_out));
}

void print_alignment(const char* title, const Json& a) {
  fmt::print(
      "  {:24} I(E;L) {:.3f} bit (random {:.3f}, normalised {:.2f})  H(E|L) {:.3f}  "
      "H(L|E) {:.3f}  purity {:.2f} (random {:.2f})  matching {:.2f}\n",
      title, a["mutual_information"].get<double>(), a["random_baseline"].get<double>(),
      a["normalized"].get<double>(), a["expert_given_label"].get<double>(),
      a["label_given_expert"].get<double>(), a["purity"].get<double>(),
      a["purity_baseline"].get<double>(), a["matching"].get<double>());
}

void print_layer(const Json& layer, const std::vector<std::string>& classes) {
  // Plus zero: an entropy of none may be a negative zero.
  const auto number = [&](const char* key) { return layer[key].get<double>() + 0.0; };
  fmt::print("\nlayer {}: {} experts, {} used, {:g} a token\n", layer["name"].get<std::string>(),
             layer["experts"].get<int64_t>(), layer["experts_used"].get<int64_t>(),
             layer["top_k"].get<double>());
  fmt::print("  {:24}", "expert");
  for (int64_t e = 0; e < layer["experts"].get<int64_t>(); ++e) fmt::print("{:>8}", e);
  fmt::print("\n");
  print_row("usage", layer["usage"], "{:>8.3f}");
  print_row("mean probability", layer["mean_probs"], "{:>8.3f}");
  if (layer.contains("confidence")) print_row("confidence", layer["confidence"], "{:>8.3f}");
  if (!layer["dead"].empty()) fmt::print("  {:24}{}\n", "dead experts", layer["dead"].dump());
  for (size_t c = 0; c < classes.size() && classes.size() <= 20; ++c) {
    print_row(classes[c], layer["by_label"]["counts"][c], "{:>8.0f}");
  }
  fmt::print("  {:24} {:.3f} bit\n", "H_s (sharpness)", number("sample_entropy"));
  fmt::print("  {:24} {:.3f} bit of {:.3f}\n", "H_u (usage)", number("usage_entropy"),
             std::log2(number("experts")));
  fmt::print("  {:24} {:.3f}\n", "largest probability", number("top1_mass"));
  fmt::print("  {:24} variation {:.3f}, Gini {:.3f}\n", "load", number("load_variation"),
             number("load_gini"));
  print_alignment("by predicted class", layer["by_predicted"]);
  print_alignment("by true class", layer["by_label"]);
  if (layer.contains("by_cluster")) {
    print_alignment("by true cluster", layer["by_cluster"]);
    fmt::print("  {:24} {:.3f} nat\n", "dispatch entropy",
               layer["by_cluster"]["label_given_expert"].get<double>() * std::log(2.0));
    const auto& counts = layer["by_cluster"]["counts"];
    for (size_t k = 0; k < counts.size() && counts.size() <= 20; ++k) {
      print_row(fmt::format("cluster {}", k), counts[k], "{:>8.0f}");
    }
  }
  if (layer.contains("routing_regret")) print_outputs(layer);
  if (layer.contains("weight_cosine_mean")) {
    fmt::print("  {:24} {}\n", "weight similarity", mean_text(layer["weight_cosine_mean"]));
  }
  if (layer.contains("router_saturation")) {
    fmt::print("  {:24} {:.3f} (random {:.3f})\n", "router saturation", number("router_saturation"),
               number("router_saturation_baseline"));
  }
  if (layer.contains("saturation_over_time")) {
    fmt::print("  share of the final choices made at step");
    for (const auto& point : layer["saturation_over_time"]) {
      fmt::print(" {}: {:.3f} ", point["step"].get<int64_t>(), point["value"].get<double>());
    }
    fmt::print("\n");
  }
}

/// Experts and router along the true directions of generated data.
void print_directions(const Json& alignment) {
  for (const auto& [part, tables] : alignment.items()) {
    if (!tables.is_object()) continue;
    for (const auto& [name, table] : tables.items()) {
      fmt::print("\nalignment of the {} with the true directions \"{}\" (expert by direction)\n",
                 part, name);
      for (size_t e = 0; e < table.size(); ++e) {
        print_row(fmt::format("expert {}", e), table[e], "{:>9.3f}");
      }
    }
  }
  if (alignment.contains("centre_over_label")) {
    fmt::print("router, centre over label {:.2f}; centres covered {}; experts in use {}\n",
               figure_value(alignment["centre_over_label"]),
               alignment["centres_covered"].get<int64_t>(),
               alignment["experts_in_use"].get<int64_t>());
  }
}

/// A row for each part, then all of them together.
void print_operations(const Json& counts) {
  const auto batch = counts["batch"].get<int64_t>();
  const double total = counts["operations"].get<double>();
  fmt::print("{}: operations of a forward pass of {} sample{}, 2 a multiply-add\n",
             counts["run"].get<std::string>(), batch, batch == 1 ? "" : "s");
  fmt::print("  {:32} {:>14} {:>14} {:>7}\n", "part", "MFLOP", "MFLOP a sample", "share");
  const auto row = [&](const std::string& name, double operations) {
    fmt::print("  {:32} {:>14.6g} {:>14.6g} {:>6.1f}%\n", name, operations / 1e6,
               operations / 1e6 / static_cast<double>(batch),
               total > 0 ? 100 * operations / total : 0.0);
  };
  for (const auto& part : counts["parts"]) {
    row(part["name"].get<std::string>(), part["operations"].get<double>());
  }
  row("all", total);
}

}  // namespace

int run(const InspectFlags& flags) {
  note_unchecked(flags.run);
  if (flags.flops) {
    const Json counts = tasks::of_run(flags.run).operations(flags.run, flags.data, flags.batch);
    if (flags.json) {
      fmt::print("{}\n", dump_text(counts, 2));
    } else {
      print_operations(counts);
    }
    return 0;
  }
  const Json report = tasks::of_run(flags.run).inspect(flags.run, flags.data, flags.against);
  if (!flags.json && !report.contains("layers")) {
    print_summary(report);
    return 0;
  }
  if (flags.json) {
    fmt::print("{}\n", dump_text(report, 2));
    return 0;
  }
  fmt::print("{}: {}, seed {}, test error {:.4f}\n", report["run"].get<std::string>(),
             report["data"].get<std::string>(), report["seed"].get<int64_t>(),
             report["error"].get<double>());
  const auto classes = report["classes"].get<std::vector<std::string>>();
  for (const auto& layer : report["layers"]) print_layer(layer, classes);
  if (report.contains("alignment")) print_directions(report["alignment"]);
  if (report["layers"].empty()) fmt::print("a single model: no router to inspect\n");
  return 0;
}

}  // namespace moekit::cli
