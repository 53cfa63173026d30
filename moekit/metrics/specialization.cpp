#include "moekit/metrics/specialization.h"

#include <cmath>

#include "moekit/metrics/information.h"
#include "moekit/metrics/load.h"
#include "moekit/metrics/routing_metrics.h"
#include "moekit/tensor/tensor_json.h"

namespace moekit::metrics {

Json specialization_summary(const LayerTrace& layer, const RoutingTrace& trace, int64_t num_classes,
                            bool hard) {
  const int64_t experts = layer.num_experts();
  const auto chosen = layer.probs.argmax(1);
  const auto usage = hard ? expert_load(chosen, experts) : layer.probs.sum(0).to(torch::kFloat64);
  const auto load = load_stats(usage);
  Json out = Json::object();
  const auto by_label = [&](const std::string& name, const char* key) {
    const auto found = trace.labels.find(name);
    if (found == trace.labels.end()) return;
    const auto table = label_expert_counts(found->second, chosen, num_classes, experts);
    out[key] = label_alignment(table).mutual_information;
  };
  by_label("predicted", "mutual_information");
  by_label("label", "mutual_information_true");
  out["sample_entropy"] = hard ? 0.0 : sample_entropy(layer.probs);
  out["usage_entropy"] = load.entropy_bits;
  if (const auto found = trace.labels.find("label"); found != trace.labels.end()) {
    const auto mass = label_expert_mass(found->second, layer.probs, num_classes);
    double sum = 0;
    int64_t present = 0;
    for (int64_t c = 0; c < num_classes; ++c) {
      if (mass[c].sum().item<double>() <= 0) continue;
      sum += entropy(mass[c]);
      ++present;
    }
    out["label_entropy_over_experts"] = present > 0 ? sum / static_cast<double>(present) : 0.0;
    const auto table = label_expert_counts(found->second, chosen, num_classes, experts);
    const auto alignment = label_alignment(table);
    out["normalized_information"] = alignment.normalized;
    out["dispatch_entropy"] = alignment.label_given_expert;
    out["purity"] = purity(table);
    out["matching"] = best_matching(table);
  }
  if (const auto found = trace.labels.find("cluster"); found != trace.labels.end()) {
    const int64_t clusters = found->second.max().item<int64_t>() + 1;
    const auto table = label_expert_counts(found->second, chosen, clusters, experts);
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
