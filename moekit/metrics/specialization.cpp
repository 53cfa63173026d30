#include "moekit/metrics/specialization.h"

#include <cmath>
#include <limits>

#include "moekit/core/error.h"
#include "moekit/metrics/checks.h"
#include "moekit/metrics/information.h"
#include "moekit/metrics/load.h"
#include "moekit/metrics/routing_metrics.h"
#include "moekit/tensor/tensor_json.h"

namespace moekit::metrics {

namespace {

constexpr double kTiny = 1e-30;  // of a token without an expert the share is 0, not 0 / 0

/// The labels of a name, checked against the layer and their number; undefined when not recorded.
torch::Tensor labels_of(const LayerTrace& layer, const RoutingTrace& trace, const std::string& name,
                        int64_t num_labels) {
  const auto found = trace.labels.find(name);
  if (found == trace.labels.end()) return {};
  const std::string who = concat("specialization of layer ", layer.name);
  const auto& labels = found->second;
  MOEKIT_CHECK(labels.dim() == 1 && labels.size(0) == layer.num_tokens(), who, ": labels.", name,
               " must be [", layer.num_tokens(), "]; got ", labels.sizes());
  check_ids(who, "labels." + name, labels, num_labels);
  return labels;
}

/// Mean over the classes that occur of the entropy of the class's mean probabilities.
double class_entropy(const torch::Tensor& mass) {
  double sum = 0;
  int64_t present = 0;
  for (int64_t c = 0; c < mass.size(0); ++c) {
    if (mass[c].sum().item<double>() <= 0) continue;
    sum += entropy(mass[c]);
    ++present;
  }
  return present > 0 ? sum / static_cast<double>(present) : 0.0;
}

}  // namespace

int64_t num_labels(const torch::Tensor& labels) {
  return labels.numel() > 0 ? labels.max().item<int64_t>() + 1 : 0;
}

Json specialization_summary(const LayerTrace& layer, const RoutingTrace& trace, int64_t num_classes,
                            bool hard) {
  check_probs(concat("specialization of layer ", layer.name), layer.probs);
  const int64_t experts = layer.num_experts();
  const auto chosen = layer.top1();
  const auto usage = hard ? expert_load(chosen, experts) : layer.probs.sum(0).to(torch::kFloat64);
  const auto load = load_stats(usage);
  Json out = Json::object();
  const auto by_label = [&](const std::string& name, const char* key) {
    const auto labels = labels_of(layer, trace, name, num_classes);
    if (!labels.defined()) return;
    const auto table = label_expert_counts(labels, chosen, num_classes, experts);
    out[key] = label_alignment(table).mutual_information;
  };
  by_label("predicted", "mutual_information");
  by_label("selected", "mutual_information_selected");
  by_label("label", "mutual_information_true");
  out["sample_entropy"] = hard ? 0.0 : sample_entropy(layer.probs);
  out["usage_entropy"] = load.entropy_bits;
  if (const double k = layer.mean_top_k(); !hard && k > 1 && k < static_cast<double>(experts)) {
    const auto kept = layer.probs * layer.active();
    const auto masked = kept / kept.sum(1, true).clamp_min(kTiny);
    out["sample_entropy_top_k"] = sample_entropy(masked);
    out["usage_entropy_top_k"] = entropy(masked.sum(0));
  }
  if (const auto labels = labels_of(layer, trace, "label", num_classes); labels.defined()) {
    const auto mass = label_expert_mass(labels, layer.probs, num_classes);
    out["label_entropy_over_experts"] = class_entropy(mass);
    const auto table = label_expert_counts(labels, chosen, num_classes, experts);
    const auto alignment = label_alignment(table);
    out["normalized_information"] = alignment.normalized;
    out["dispatch_entropy"] = alignment.label_given_expert;
    out["purity"] = purity(table);
    out["matching"] = best_matching(table);
  }
  constexpr int64_t kAnyId = std::numeric_limits<int64_t>::max();
  if (const auto clusters = labels_of(layer, trace, "cluster", kAnyId); clusters.defined()) {
    const auto table = label_expert_counts(clusters, chosen, num_labels(clusters), experts);
    out["cluster"] = {
        {"dispatch_entropy", label_alignment(table).label_given_expert * std::log(2.0)},
        {"purity", purity(table)},
        {"matching", best_matching(table)},
        {"counts", tensor::to_json_rows(table.to(torch::kLong))}};
  }
  out["usage"] = load.fraction;
  out["top1_mass"] = top1_mass(layer.probs);
  out["experts_used"] = load.experts_used;
  out["load_variation"] = load.variation;
  out["load_gini"] = load.gini;
  return out;
}

}  // namespace moekit::metrics
