#include "moekit/merge/usage.h"

#include <torch/torch.h>

#include <algorithm>

#include "moekit/core/error.h"
#include "moekit/core/schema.h"

namespace moekit::merge {
namespace {

/// sum <- keep * sum + more, which makes the first counts of a layer.
void add_to(std::vector<double>& sum, const std::vector<double>& more, double keep = 1) {
  sum.resize(more.size());
  for (size_t e = 0; e < more.size(); ++e) sum[e] = keep * sum[e] + more[e];
}

}  // namespace

std::vector<double> by_expert(const torch::Tensor& expert, const torch::Tensor& values,
                              int64_t experts) {
  const auto sums = torch::zeros({experts}, torch::kFloat64)
                        .index_add_(0, expert, values.to(torch::kFloat64))
                        .contiguous();
  return {sums.data_ptr<double>(), sums.data_ptr<double>() + experts};
}

UsageCounter::UsageCounter(double decay, SumOverReplicas sum)
    : decay_(decay), sum_(std::move(sum)) {
  MOEKIT_CHECK(decay > 0 && decay < 1, "UsageCounter: decay must be above 0 and below 1; got ",
               decay);
}

void UsageCounter::add(const std::vector<nn::LayerRouting>& layers) {
  const torch::NoGradGuard no_grad;
  for (const auto& [name, routing, samples, dropped] : layers) {
    const int64_t experts = routing.num_experts();
    auto& usage = layers_[name];
    MOEKIT_CHECK(static_cast<int64_t>(usage.task_hard.size()) <= experts, "UsageCounter: layer \"",
                 name, "\" had ", usage.task_hard.size(), " experts, now ", experts);
    const auto weight = routing.weight.detach();
    auto hard = by_expert(routing.expert, torch::ones_like(weight), experts);
    auto soft = by_expert(routing.expert, weight, experts);
    if (sum_) {
      sum_(hard);
      sum_(soft);
    }
    for (auto* counts : {&usage.since_merge_hard, &usage.task_hard}) add_to(*counts, hard);
    for (auto* counts : {&usage.since_merge_soft, &usage.task_soft}) add_to(*counts, soft);
    add_to(usage.exponential_hard, hard, decay_);
    add_to(usage.exponential_soft, soft, decay_);
  }
}

const std::vector<double>& UsageCounter::counts(const std::string& layer, UsageWindow window,
                                                UsageCount count) const {
  static const std::vector<double> kNone;
  const auto found = layers_.find(layer);
  if (found == layers_.end()) return kNone;
  const LayerUsage& usage = found->second;
  const bool hard = count == UsageCount::kHard;
  switch (window) {
    case UsageWindow::kSinceMerge:
      return hard ? usage.since_merge_hard : usage.since_merge_soft;
    case UsageWindow::kTask:
      return hard ? usage.task_hard : usage.task_soft;
    case UsageWindow::kExponential:
      return hard ? usage.exponential_hard : usage.exponential_soft;
  }
  throw ArgumentError("UsageCounter: no such window");
}

void UsageCounter::start_after_merge(const std::string& layer) {
  auto& usage = layers_[layer];
  for (auto* counts : {&usage.since_merge_hard, &usage.since_merge_soft}) {
    std::fill(counts->begin(), counts->end(), 0.0);
  }
}

void UsageCounter::start_task() {
  for (auto& [name, usage] : layers_) {
    for (auto* counts : {&usage.task_hard, &usage.task_soft}) {
      std::fill(counts->begin(), counts->end(), 0.0);
    }
  }
}

Json UsageCounter::state() const {
  Json layers = Json::object();
  for (const auto& [name, usage] : layers_) layers[name] = to_json(usage);
  return layers;
}

void UsageCounter::load_state(const Json& state, const std::string& where) {
  static const Schema kLayers = Schema::map(schema_of<LayerUsage>());
  kLayers.check(state, where);
  layers_.clear();
  for (const auto& [name, json] : state.items()) {
    auto& usage = layers_[name];
    bind_json(json, concat(where, ".", name), usage);
    const size_t experts = usage.task_hard.size();
    for (const auto* counts : {&usage.since_merge_hard, &usage.since_merge_soft, &usage.task_soft,
                               &usage.exponential_hard, &usage.exponential_soft}) {
      MOEKIT_CHECK_FORMAT(counts->size() == experts, where, ".", name, ": counts of ",
                          counts->size(), " and of ", experts, " experts");
    }
  }
}

}  // namespace moekit::merge
