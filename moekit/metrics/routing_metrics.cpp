#include "moekit/metrics/routing_metrics.h"

#include <algorithm>
#include <cmath>

#include "moekit/core/error.h"

namespace moekit::metrics {
namespace {

double accuracy_of(const torch::Tensor& probs, const torch::Tensor& expert_log_probs,
                   const torch::Tensor& labels, const std::vector<int64_t>& experts) {
  const auto index = torch::tensor(experts, torch::kLong);
  const auto weight = probs.index_select(1, index).t().unsqueeze(2);
  const auto joined = (expert_log_probs.index_select(0, index).exp() * weight).sum(0);
  return joined.argmax(1).eq(labels).to(torch::kFloat64).mean().item<double>();
}

}  // namespace

double sample_entropy(const torch::Tensor& probs, LogBase base) {
  if (probs.size(0) == 0) return 0;
  const auto p = probs.detach().to(torch::kFloat64);
  const double nats = -torch::xlogy(p, p).sum(1).mean().item<double>();
  return base == LogBase::kBits ? nats / std::log(2.0) : nats;
}

double top1_mass(const torch::Tensor& probs) {
  if (probs.size(0) == 0) return 0;
  return std::get<0>(probs.max(1)).to(torch::kFloat64).mean().item<double>();
}

torch::Tensor coactivation(const torch::Tensor& active) {
  const auto chosen = active.to(torch::kFloat64);
  const auto both = chosen.t().matmul(chosen);
  return both / both.diagonal().clamp_min(1).unsqueeze(0);
}

double coactivation_baseline(double top_k, int64_t num_experts) {
  return num_experts > 1 ? (top_k - 1) / static_cast<double>(num_experts - 1) : 0;
}

double router_saturation(const torch::Tensor& early, const torch::Tensor& late) {
  MOEKIT_CHECK(early.dim() == 2 && early.sizes() == late.sizes() &&
                   early.scalar_type() == torch::kBool && late.scalar_type() == torch::kBool,
               "router_saturation: both must be [N, E] bool; got ", early.sizes(), " ",
               early.dtype(), " and ", late.sizes(), " ", late.dtype());
  const auto chosen = late.sum(1);
  const auto counted = chosen.gt(0);
  if (!counted.any().item<bool>()) return 0;
  const auto share = (early & late).sum(1).to(torch::kFloat64) / chosen.to(torch::kFloat64);
  return share.masked_select(counted).mean().item<double>();
}

double router_saturation_baseline(double top_k, int64_t num_experts) {
  return top_k / static_cast<double>(num_experts);
}

RoutingRegret routing_regret(const torch::Tensor& losses, const torch::Tensor& chosen) {
  MOEKIT_CHECK(losses.dim() == 2 && chosen.dim() == 1 && losses.size(1) == chosen.size(0),
               "routing_regret: losses must be [E, N] and chosen [N]; got ", losses.sizes(),
               " and ", chosen.sizes());
  if (chosen.numel() == 0) return {0, 0};
  const auto values = losses.detach().to(torch::kFloat64);
  const auto best = std::get<0>(values.min(0));
  const auto own = values.gather(0, chosen.unsqueeze(0)).squeeze(0);
  return {(own - best).mean().item<double>(), (values.mean(0) - best).mean().item<double>()};
}

SubsetRetention subset_retention(const torch::Tensor& probs, const torch::Tensor& expert_log_probs,
                                 const torch::Tensor& labels, const torch::Tensor& mask,
                                 int64_t keep) {
  const int64_t num_experts = probs.size(1);
  MOEKIT_CHECK(keep >= 1 && keep <= num_experts, "subset_retention: keep must be 1..", num_experts,
               "; got ", keep);
  const auto rows = mask.nonzero().squeeze(1);
  if (rows.numel() == 0) return {0, 0, 0};
  const auto p = probs.index_select(0, rows);
  const auto outputs = expert_log_probs.index_select(1, rows);
  const auto y = labels.index_select(0, rows);
  std::vector<int64_t> all(static_cast<size_t>(num_experts));
  for (size_t e = 0; e < all.size(); ++e) all[e] = static_cast<int64_t>(e);
  const auto most = std::get<1>(p.sum(0).topk(keep));
  std::vector<int64_t> kept(most.data_ptr<int64_t>(), most.data_ptr<int64_t>() + keep);
  SubsetRetention out{accuracy_of(p, outputs, y, all), accuracy_of(p, outputs, y, kept), 0};
  std::vector<bool> member(all.size(), false);
  std::fill(member.begin(), member.begin() + keep, true);
  int count = 0;
  do {
    std::vector<int64_t> subset;
    for (size_t e = 0; e < all.size(); ++e) {
      if (member[e]) subset.push_back(static_cast<int64_t>(e));
    }
    out.random += accuracy_of(p, outputs, y, subset);
    ++count;
  } while (count < 64 && std::prev_permutation(member.begin(), member.end()));
  out.random /= count;
  return out;
}

}  // namespace moekit::metrics
