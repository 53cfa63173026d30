#include "moekit/tasks/classification/inspection.h"

#include "moekit/metrics/information.h"
#include "moekit/metrics/load.h"
#include "moekit/metrics/routing_metrics.h"
#include "moekit/metrics/similarity.h"
#include "moekit/models/model_io.h"
#include "moekit/run/run_folder.h"
#include "moekit/tasks/classification/evaluate.h"
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

void add_expert_outputs(Json& out, const metrics::LayerTrace& layer,
                        const metrics::RoutingTrace& trace, int64_t num_classes) {
  const auto& outputs = trace.expert_log_probs;
  const auto& labels = trace.labels.at("label");
  const auto chosen = layer.probs.argmax(1);
  const int64_t experts = layer.num_experts();
  const auto losses =
      -outputs.gather(2, labels.reshape({1, -1, 1}).expand({experts, -1, 1})).squeeze(2);
  const auto regret = metrics::routing_regret(losses, chosen);
  out["routing_regret"] = {{"chosen", regret.chosen}, {"random_baseline", regret.random}};
  const int64_t keep = std::max<int64_t>(1, experts / 4);
  metrics::SubsetRetention sum{0, 0, 0};
  for (int64_t c = 0; c < num_classes; ++c) {
    const auto one = metrics::subset_retention(layer.probs, outputs, labels, labels.eq(c), keep);
    const double share = labels.eq(c).to(torch::kFloat64).mean().item<double>();
    sum.all += share * one.all;
    sum.kept += share * one.kept;
    sum.random += share * one.random;
  }
  out["subset_retention"] = {{"experts_kept", keep},
                             {"accuracy_all", sum.all},
                             {"accuracy_kept", sum.kept},
                             {"random_baseline", sum.random}};
  // A few thousand samples fix the similarity to two digits.
  const auto some = outputs.slice(1, 0, 2000).exp();
  out["output_cka"] = tensor::to_json_rows(metrics::linear_cka(some));
  out["output_cka_mean"] = metrics::mean_off_diagonal(metrics::linear_cka(some));
  out["output_cka_baseline"] = metrics::linear_cka_baseline(some, tensor::make_generator(1));
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

/// How many of the final choices each kept checkpoint already makes, per layer.
void add_saturation(Json& layers, const std::filesystem::path& folder, const RunData& data,
                    const metrics::RoutingTrace& final_trace) {
  const auto checkpoints = run::list_checkpoints(folder);
  if (checkpoints.size() < 2) return;
  for (const auto& [step, path] : checkpoints) {
    const auto earlier = evaluate(*models::load_model(path), data.test, data.normalization).trace;
    for (size_t l = 0; l < layers.size(); ++l) {
      const auto chosen = final_trace.layers[l].active();
      layers[l]["saturation_over_time"].push_back(
          {{"step", step},
           {"value", metrics::router_saturation(earlier.layers[l].active(), chosen)}});
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
  const auto chosen = layer.probs.argmax(1);
  item["by_predicted"] = alignment_json(trace.labels.at("predicted"), chosen, num_classes, experts);
  item["by_label"] = alignment_json(trace.labels.at("label"), chosen, num_classes, experts);
  if (const auto found = trace.labels.find("cluster"); found != trace.labels.end()) {
    item["by_cluster"] =
        alignment_json(found->second, chosen, found->second.max().item<int64_t>() + 1, experts);
  }
}

/// How alike the experts' weights are.
void add_weights(Json& item, const nn::ExpertsImpl& experts) {
  const auto weights = stacked_weights(experts, experts.num_experts());
  if (!weights.defined()) return;
  const auto cosine = metrics::weight_cosine(weights);
  item["weight_cosine"] = tensor::to_json_rows(cosine);
  item["weight_cosine_mean"] = metrics::mean_off_diagonal(cosine);
}

/// How many of this run's choices another one makes too.
void add_comparison(Json& item, const metrics::LayerTrace& layer,
                    const metrics::LayerTrace& other) {
  item["router_saturation"] = metrics::router_saturation(other.active(), layer.active());
  item["router_saturation_baseline"] =
      metrics::router_saturation_baseline(layer.mean_top_k(), layer.num_experts());
}

}  // namespace

Json inspect_run(const std::filesystem::path& folder, const RunData& data,
                 const std::string& against) {
  const Json summary = run::read_summary(folder);
  const auto config = read_config(folder);
  const auto trace = metrics::read_trace(folder / "trace.safetensors");
  const auto model = models::load_model(folder / "model");
  const auto other =
      against.empty() ? metrics::RoutingTrace()
                      : metrics::read_trace(std::filesystem::path(against) / "trace.safetensors");
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
    for (const auto& routed : nn::routed_layers(*model)) {
      if (routed.name == layer.name) add_weights(item, *routed.experts);
    }
    if (trace.expert_log_probs.defined()) add_expert_outputs(item, layer, trace, num_classes);
    for (const auto& candidate : other.layers) {
      if (candidate.name == layer.name) add_comparison(item, layer, candidate);
    }
    out["layers"].push_back(std::move(item));
  }
  if (summary.contains("alignment")) out["alignment"] = summary["alignment"];
  add_saturation(out["layers"], folder, data, trace);
  return out;
}

std::vector<std::vector<int64_t>> favourite_images(const metrics::LayerTrace& layer,
                                                   int64_t count) {
  std::vector<std::vector<int64_t>> out;
  const auto chosen = layer.probs.argmax(1);
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
