#include "moekit/tasks/classification/alignments.h"

#include "moekit/metrics/alignment.h"
#include "moekit/tensor/tensor_json.h"

namespace moekit::classification {
namespace {

/// An expert that answers for at most this share of the samples is not in use.
constexpr double kInUse = 0.02;

/// The router's own figures, where the data have centres and labels.
void add_centres(Json& out, const torch::Tensor& router, const RunData& data,
                 const metrics::LayerTrace& layer) {
  const auto centre = metrics::alignment(router, data.directions.at("centre"));
  const auto label = metrics::alignment(router, data.directions.at("label"));
  const auto chosen = layer.top1();
  const auto used = torch::bincount(chosen, {}, layer.num_experts()) >
                    kInUse * static_cast<double>(chosen.size(0));
  out["centre_over_label"] = metrics::alignment_ratio(centre, label, used);
  out["centres_covered"] = metrics::directions_covered(centre, used);
  out["experts_in_use"] = used.sum().item<int64_t>();
}

}  // namespace

Json alignments(models::ClassifierImpl& model, const RunData& data,
                const metrics::RoutingTrace& trace) {
  Json out = Json::object();
  const auto layers = nn::routed_layers(model);
  if (layers.empty()) return out;
  const auto experts = layers.front().experts->directions();
  const auto router = layers.front().router ? layers.front().router->directions() : torch::Tensor();
  for (const auto& [name, vectors] : data.directions) {
    const auto add = [&, &of = vectors, &key = name](const char* part,
                                                     const torch::Tensor& weights) {
      if (!weights.defined() || weights.size(-1) != of.size(1)) return;
      out[part][key] = tensor::to_json_rows(metrics::alignment(weights, of));
    };
    add("experts", experts);
    add("router", router);
  }
  if (out.contains("router") && data.directions.count("label") == 1 &&
      data.directions.count("centre") == 1 && !trace.layers.empty()) {
    add_centres(out, router, data, trace.layers.front());
  }
  return out;
}

}  // namespace moekit::classification
