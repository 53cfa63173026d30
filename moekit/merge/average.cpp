#include "moekit/merge/average.h"

#include <torch/torch.h>

#include <cmath>
#include <numeric>

namespace moekit::merge {

std::vector<double> shares_of(const std::vector<double>& weights) {
  for (const double weight : weights) {
    MOEKIT_CHECK(std::isfinite(weight) && weight >= 0,
                 "merge: weights must be finite numbers from 0; got ", weight);
  }
  const double sum = std::accumulate(weights.begin(), weights.end(), 0.0);
  MOEKIT_CHECK(sum > 0 && std::isfinite(sum), "merge: the weights' sum must be positive; got ",
               sum);
  std::vector<double> shares;
  shares.reserve(weights.size());
  for (const double weight : weights) shares.push_back(weight / sum);
  return shares;
}

nn::ExpertTensors average(const std::vector<nn::ExpertTensors>& experts,
                          const std::vector<double>& weights) {
  const torch::NoGradGuard no_grad;
  MOEKIT_CHECK(!experts.empty() && experts.size() == weights.size(), "average: ", experts.size(),
               " experts and ", weights.size(), " weights");
  const auto shares = shares_of(weights);
  const auto& first = experts.front();
  nn::ExpertTensors mean;
  for (size_t t = 0; t < first.size(); ++t) {
    const auto& [name, start] = first[t];
    // From the first one on by differences: equal experts leave exact zeros.
    const auto base = start.detach().to(torch::kFloat64);
    auto moved = base.clone();
    for (size_t e = 1; e < experts.size(); ++e) {
      MOEKIT_CHECK(experts[e].size() == first.size() && experts[e][t].first == name &&
                       experts[e][t].second.sizes() == start.sizes(),
                   "average: expert ", e, " of ", experts.size(), " has no ", name, " ",
                   start.sizes(), " as the first one does");
      moved += (experts[e][t].second.detach().to(torch::kFloat64) - base) * shares[e];
    }
    mean.emplace_back(
        name, start.is_floating_point() ? moved.to(start.scalar_type()) : start.detach().clone());
  }
  return mean;
}

}  // namespace moekit::merge
