#include "moekit/compress/merge_groups.h"

#include <torch/torch.h>

#include <algorithm>

#include "moekit/merge/average.h"
#include "moekit/merge/merge_experts.h"
#include "moekit/nn/surgery.h"

namespace moekit::compress {
namespace {

/// What the members of a group weigh in its mean.
std::vector<double> weights_of(const std::vector<int64_t>& experts,
                               const LayerStatistics& statistics, MergeWeights how) {
  const auto& counts = how == MergeWeights::kSoftUsage ? statistics.soft : statistics.hard;
  std::vector<double> weights;
  double sum = 0;
  for (const int64_t expert : experts) {
    // A router whose weights are logits gives negative ones: no share of a mean.
    weights.push_back(std::max(0.0, counts[static_cast<size_t>(expert)]));
    sum += weights.back();
  }
  if (how == MergeWeights::kUniform || sum == 0) weights.assign(experts.size(), 1);
  return merge::shares_of(weights);
}

}  // namespace

std::vector<GroupPlan> plan_groups(const std::vector<std::vector<int64_t>>& groups,
                                   const LayerStatistics& statistics, MergeWeights weights) {
  std::vector<GroupPlan> plans;
  for (const auto& group : groups) {
    GroupPlan plan{group, {}};
    const auto less_used = [&](int64_t a, int64_t b) {
      return statistics.hard[static_cast<size_t>(a)] < statistics.hard[static_cast<size_t>(b)];
    };
    // The first of the largest: experts are in ascending order.
    const auto most = std::max_element(plan.experts.begin(), plan.experts.end(), less_used);
    std::rotate(plan.experts.begin(), most, most + 1);
    plan.weights = weights_of(plan.experts, statistics, weights);
    plans.push_back(std::move(plan));
  }
  return plans;
}

void merge_groups(const nn::RoutedLayer& layer, const std::vector<GroupPlan>& groups, bool align,
                  RouterRepair router) {
  const torch::NoGradGuard no_grad;
  const int64_t top_k = layer.router == nullptr ? 0 : layer.router->traits().top_k;
  MOEKIT_CHECK(static_cast<int64_t>(groups.size()) >= std::max<int64_t>(top_k, 1), "layer \"",
               layer.name, "\": ", groups.size(), " experts would be left, and each token has ",
               top_k);
  struct Merged {
    nn::ExpertTensors tensors;
    std::vector<torch::Tensor> rows;
  };
  std::vector<Merged> merged(groups.size());
  std::vector<int64_t> representatives;
  for (size_t g = 0; g < groups.size(); ++g) {
    const auto& [experts, weights] = groups[g];
    representatives.push_back(experts.front());
    if (experts.size() == 1) continue;
    merged[g].tensors = merge::merged_expert(layer, experts, weights, {.align = align});
    if (router == RouterRepair::kMean) {
      merged[g].rows = merge::router_rows(layer, experts, weights, merge::RouterRows::kMean);
    }
  }
  nn::take_experts(layer, representatives);
  for (size_t g = 0; g < groups.size(); ++g) {
    if (groups[g].experts.size() == 1) continue;
    merge::write_expert(layer, static_cast<int64_t>(g), merged[g].tensors, merged[g].rows);
  }
}

}  // namespace moekit::compress
