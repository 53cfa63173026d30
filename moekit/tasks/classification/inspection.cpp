#include "moekit/tasks/classification/inspection.h"

#include "moekit/metrics/checks.h"
#include "moekit/metrics/information.h"
#include "moekit/metrics/load.h"
#include "moekit/metrics/routing_metrics.h"
#include "moekit/metrics/similarity.h"
#include "moekit/metrics/specialization.h"
#include "moekit/models/model_io.h"
#include "moekit/run/run_folder.h"
#include "moekit/tasks/classification/evaluate.h"
#include "moekit/tasks/classification/run_files.h"
#include "moekit/tensor/generator.h"
#include "moekit/tensor/tensor_json.h"

namespace moekit::classification {
namespace {

Json alignment_json(const torch::Tensor& labels, const torch::Tensor& chosen, int64_t num_labels,
                    int64_t experts) {
  const auto table = metrics::label_expert_counts(labels, chosen, num_labels, experts);
  const auto a = metrics::label_alignment(table);
  return {{"mutual_information", a.mutual_information},
          {"random_baseline", metrics::mutual_information_baseline(table)},
          {"normalized", a.normalized},
          {"expert_given_label", a.expert_given_label},
          {"label_given_expert", a.label_given_expert},
          {"purity", metrics::purity(table)},
          {"purity_baseline", metrics::purity_baseline(table)},
          {"matching", metrics::best_matching(table)},
          {"counts", tensor::to_json_rows(table)}};
}

/// Strings together the stacked parameters that have one slice an expert, [E, P].
torch::Tensor stacked_weights(const torch::nn::Module& experts, int64_t num_experts) {
  std::vector<torch::Tensor> parts;
  for (const auto& parameter : experts.parameters()) {
    if (parameter.dim() >= 2 && parameter.size(0) == num_experts) {
      parts.push_back(parameter.detach().flatten(1));
    }
  }
  return parts.empty() ? torch::Tensor() : torch::cat(parts, 1);
}

/// Each class's samples with its most used experts alone: means over all samples.
Json retention_json(const metrics::LayerTrace& layer, const metrics::RoutingTrace& trace,
                    int64_t num_classes) {
  const auto& labels = trace.labels.at("label");
  const int64_t keep = std::max<int64_t>(1, layer.num_experts() / 4);
  const auto generator = tensor::make_generator(1);
  metrics::SubsetRetention sum{};
  for (int64_t c = 0; c < num_classes; ++c) {
    const auto mask = labels.eq(c);
    const auto one = metrics::subset_retention(layer.probs, trace.expert_log_probs, labels, mask,
                                               keep, generator);
    const double share = mask.to(torch::kFloat64).mean().item<double>();
    sum = {sum.all + share * one.all, sum.kept + share * one.kept, sum.random + share * one.random,
           one.subsets, one.exact};
  }
  return {{"experts_kept", keep},
          {"accuracy_all", sum.all},
          {"accuracy_kept", sum.kept},
          {"random_baseline", sum.random},
          {"baseline_subsets", sum.subsets},
          {"baseline_exact", sum.exact}};
}

/// How alike the experts' outputs are. Means are null where no pair of experts has a value.
void add_output_similarity(Json& out, const torch::Tensor& log_probs) {
  constexpr auto kEstimator = metrics::CkaEstimator::kUnbiased;
  // A few thousand samples fix the similarity to two digits.
  const auto some = log_probs.slice(1, 0, 2000).exp();
  const auto cka = metrics::linear_cka(some, kEstimator);
  const auto mean = metrics::mean_off_diagonal(cka);
  out["output_cka"] = tensor::to_json_rows(cka);
  out["output_cka_estimator"] = std::string(enum_name(kEstimator));
  out["output_cka_mean"] = mean.value;
  out["output_cka_left_out"] = mean.left_out / 2;  // (i, j) and (j, i) are one pair
  out["output_cka_baseline"] =
      metrics::linear_cka_baseline(some, kEstimator, tensor::make_generator(1));
}

void add_expert_outputs(Json& out, const metrics::LayerTrace& layer,
                        const metrics::RoutingTrace& trace, int64_t num_classes) {
  const auto& outputs = trace.expert_log_probs;
  const auto& labels = trace.labels.at("label");
  const auto chosen = layer.top1();
  const int64_t experts = layer.num_experts();
  const auto losses =
      -outputs.gather(2, labels.reshape({1, -1, 1}).expand({experts, -1, 1})).squeeze(2);
  const auto regret = metrics::routing_regret(losses, chosen);
  out["routing_regret"] = {{"chosen", regret.chosen}, {"random_baseline", regret.random}};
  out["subset_retention"] = retention_json(layer, trace, num_classes);
  add_output_similarity(out, outputs);
  Json confidence = Json::array();
  Json confusion = Json::array();
  const auto& predicted = trace.labels.at("predicted");
  for (int64_t e = 0; e < experts; ++e) {
    const auto rows = chosen.eq(e).nonzero().squeeze(1);
    const auto top = std::get<0>(outputs[e].index_select(0, rows).exp().max(1));
    confidence.push_back(rows.numel() > 0 ? top.mean().item<double>() : 0.0);
    confusion.push_back(tensor::to_json_rows(metrics::label_expert_counts(
        labels.index_select(0, rows), predicted.index_select(0, rows), num_classes, num_classes)));
  }
  out["confidence"] = confidence;
  out["confusion"] = confusion;
}

/// The model's layer that a trace's layer was recorded of. @throws FormatError when there is none
const nn::RoutedLayer& routed_of(const std::vector<nn::RoutedLayer>& layers,
                                 const metrics::LayerTrace& layer,
                                 const std::filesystem::path& folder) {
  for (const auto& candidate : layers) {
    if (candidate.name == layer.name && candidate.experts->num_experts() == layer.num_experts()) {
      return candidate;
    }
  }
  throw FormatError(concat((folder / "trace.safetensors").string(), ": layer ", layer.name, " of ",
                           layer.num_experts(), " experts is none of the model's"));
}

/// The layer of that name in another trace. @throws FormatError naming `where`: it has none, or one
/// of other tokens or experts
const metrics::LayerTrace& same_layer(const metrics::RoutingTrace& trace,
                                      const metrics::LayerTrace& layer, const std::string& where) {
  for (const auto& candidate : trace.layers) {
    if (candidate.name != layer.name) continue;
    MOEKIT_CHECK_FORMAT(candidate.probs.sizes() == layer.probs.sizes(), where, ": layer ",
                        layer.name, " routes ", candidate.probs.sizes(),
                        " tokens and experts; this run's trace ", layer.probs.sizes());
    return candidate;
  }
  throw FormatError(concat(where, ": has no layer ", layer.name, ", which this run's trace has"));
}

/// How many of the final choices each kept checkpoint already makes, per layer.
void add_saturation(Json& layers, const std::filesystem::path& folder, const RunData& data,
                    const metrics::RoutingTrace& final_trace) {
  const auto checkpoints = run::whole_checkpoints(folder);
  if (checkpoints.size() < 2) return;
  for (const auto& [step, path] : checkpoints) {
    const auto earlier = evaluate(*models::load_model(path), data.test, data.normalization).trace;
    for (size_t l = 0; l < layers.size(); ++l) {
      const auto& last = final_trace.layers[l];
      const auto& first = same_layer(earlier, last, path.string());
      layers[l]["saturation_over_time"].push_back(
          {{"step", step}, {"value", metrics::router_saturation(first.active(), last.active())}});
    }
  }
}

/// Load, usage and sharpness of one layer.
Json layer_json(const metrics::LayerTrace& layer) {
  const int64_t experts = layer.num_experts();
  const auto load = metrics::load_stats(metrics::expert_load(layer.expert, experts));
  Json item = {{"name", layer.name},
               {"experts", experts},
               {"top_k", layer.mean_top_k()},
               {"usage", load.fraction},
               {"mean_probs", tensor::to_json_values(layer.probs.mean(0))},
               {"experts_used", load.experts_used},
               {"dead", load.dead},
               {"load_variation", load.variation},
               {"load_gini", load.gini},
               {"usage_entropy", metrics::entropy(layer.probs.sum(0))},
               {"usage_entropy_argmax", load.entropy_bits},
               {"sample_entropy", metrics::sample_entropy(layer.probs)},
               {"top1_mass", metrics::top1_mass(layer.probs)}};
  if (layer.mean_top_k() > 1) {
    item["coactivation"] = tensor::to_json_rows(metrics::coactivation(layer.active()));
    item["coactivation_baseline"] = metrics::coactivation_baseline(layer.mean_top_k(), experts);
  }
  return item;
}

/// Experts against the samples' labels.
void add_labels(Json& item, const metrics::LayerTrace& layer, const metrics::RoutingTrace& trace,
                int64_t num_classes) {
  const int64_t experts = layer.num_experts();
  const auto chosen = layer.top1();
  item["by_predicted"] = alignment_json(trace.labels.at("predicted"), chosen, num_classes, experts);
  item["by_label"] = alignment_json(trace.labels.at("label"), chosen, num_classes, experts);
  if (const auto found = trace.labels.find("cluster"); found != trace.labels.end()) {
    item["by_cluster"] =
        alignment_json(found->second, chosen, metrics::num_labels(found->second), experts);
  }
}

/// How alike the experts' weights are.
void add_weights(Json& item, const nn::ExpertsImpl& experts) {
  const auto weights = stacked_weights(experts, experts.num_experts());
  if (!weights.defined()) return;
  const auto cosine = metrics::weight_cosine(weights);
  item["weight_cosine"] = tensor::to_json_rows(cosine);
  item["weight_cosine_mean"] = metrics::mean_off_diagonal(cosine).value;
}

/// How many of this run's choices another one makes too.
void add_comparison(Json& item, const metrics::LayerTrace& layer,
                    const metrics::LayerTrace& other) {
  item["router_saturation"] = metrics::router_saturation(other.active(), layer.active());
  item["router_saturation_baseline"] =
      metrics::router_saturation_baseline(layer.mean_top_k(), layer.num_experts());
}

}  // namespace

metrics::RoutingTrace read_run_trace(const std::filesystem::path& folder, const RunData& data) {
  const auto path = folder / "trace.safetensors";
  auto trace = metrics::read_trace(path);
  const auto num_classes = static_cast<int64_t>(data.class_names.size());
  const auto check = [&](const char* name, int64_t end) {
    const auto found = trace.labels.find(name);
    MOEKIT_CHECK_FORMAT(found != trace.labels.end(), path.string(), ": labels.", name,
                        " is missing");
    MOEKIT_CHECK_FORMAT(found->second.size(0) == data.test.size(), path.string(), ": labels.", name,
                        " is of ", found->second.size(0), " images; the run is tested on ",
                        data.test.size());
    const std::string fault = metrics::id_fault(found->second, end);
    MOEKIT_CHECK_FORMAT(fault.empty(), path.string(), ": labels.", name, " ", fault);
  };
  check("label", num_classes);
  check("predicted", num_classes);
  if (data.test.clusters.defined()) {
    check("cluster", metrics::num_labels(data.test.clusters));
  } else {
    MOEKIT_CHECK_FORMAT(trace.labels.count("cluster") == 0, path.string(),
                        ": has labels.cluster, but the run's data know no clusters");
  }
  MOEKIT_CHECK_FORMAT(
      !trace.expert_log_probs.defined() || trace.expert_log_probs.size(2) == num_classes,
      path.string(), ": expert_log_probs is of ", trace.expert_log_probs.size(2),
      " classes; the run has ", num_classes);
  return trace;
}

Json inspect_run(const std::filesystem::path& folder, const RunData& data,
                 const std::string& against) {
  const Json summary = read_run_summary(folder);
  const auto config = read_config(folder);
  const auto trace = read_run_trace(folder, data);
  const auto model = models::load_model(folder / "model");
  const auto routed = nn::routed_layers(*model);
  const auto other_path = std::filesystem::path(against) / "trace.safetensors";
  const auto other = against.empty() ? metrics::RoutingTrace() : metrics::read_trace(other_path);
  Json out = {{"run", folder.string()},
              {"data", std::string(config.data.set.name())},
              {"seed", config.seed},
              {"error", summary["test"]["error"]},
              {"classes", data.class_names}};
  out["layers"] = Json::array();
  const auto num_classes = static_cast<int64_t>(data.class_names.size());
  for (const auto& layer : trace.layers) {
    Json item = layer_json(layer);
    add_labels(item, layer, trace, num_classes);
    add_weights(item, *routed_of(routed, layer, folder).experts);
    if (trace.expert_log_probs.defined()) add_expert_outputs(item, layer, trace, num_classes);
    if (!against.empty())
      add_comparison(item, layer, same_layer(other, layer, other_path.string()));
    out["layers"].push_back(std::move(item));
  }
  if (summary.contains("alignment")) out["alignment"] = summary["alignment"];
  add_saturation(out["layers"], folder, data, trace);
  return out;
}

std::vector<std::vector<int64_t>> favourite_images(const metrics::LayerTrace& layer,
                                                   int64_t count) {
  std::vector<std::vector<int64_t>> out;
  const auto chosen = layer.top1();
  for (int64_t e = 0; e < layer.num_experts(); ++e) {
    const auto own = torch::where(chosen.eq(e), layer.probs.select(1, e),
                                  torch::full({1}, -1.0, torch::kFloat32));
    const int64_t available = chosen.eq(e).sum().item<int64_t>();
    const auto best = std::get<1>(torch::sort(own, /*stable=*/true, 0, /*descending=*/true))
                          .slice(0, 0, std::min(count, available))
                          .contiguous();
    out.emplace_back(best.data_ptr<int64_t>(), best.data_ptr<int64_t>() + best.numel());
  }
  return out;
}

}  // namespace moekit::classification
