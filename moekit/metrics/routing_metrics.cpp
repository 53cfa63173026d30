#include "moekit/metrics/routing_metrics.h"

#include <algorithm>
#include <cmath>

#include "moekit/core/error.h"
#include "moekit/metrics/checks.h"
#include "moekit/nn/top_k.h"

namespace moekit::metrics {
namespace {

constexpr int64_t kMostSubsets = 64;

/// One domain's tokens.
struct Domain {
  torch::Tensor probs;    ///< [n, E] float64
  torch::Tensor outputs;  ///< [E, n, C] float64, probabilities
  torch::Tensor labels;   ///< [n]
};

double accuracy_of(const Domain& domain, const torch::Tensor& experts) {
  auto weight = domain.probs.index_select(1, experts);
  const auto mass = weight.sum(1, true);
  weight = torch::where(mass.gt(0), weight / mass,
                        torch::full_like(mass, 1.0 / static_cast<double>(experts.size(0))));
  const auto joined = (domain.outputs.index_select(0, experts) * weight.t().unsqueeze(2)).sum(0);
  return joined.argmax(1).eq(domain.labels).to(torch::kFloat64).mean().item<double>();
}

/// How many subsets of `keep` of `num_experts` there are, at most `kMostSubsets` + 1.
int64_t count_subsets(int64_t num_experts, int64_t keep) {
  const int64_t few = std::min(keep, num_experts - keep);
  int64_t count = 1;
  for (int64_t i = 1; i <= few; ++i) {
    count = count * (num_experts - few + i) / i;  // the binomial coefficient of i so far
    if (count > kMostSubsets) return kMostSubsets + 1;
  }
  return count;
}

/// Mean accuracy over every subset of `keep` experts.
double mean_over_all(const Domain& domain, int64_t keep) {
  std::vector<bool> member(static_cast<size_t>(domain.probs.size(1)), false);
  std::fill(member.begin(), member.begin() + keep, true);
  double sum = 0;
  int64_t count = 0;
  do {
    std::vector<int64_t> subset;
    for (size_t e = 0; e < member.size(); ++e) {
      if (member[e]) subset.push_back(static_cast<int64_t>(e));
    }
    sum += accuracy_of(domain, torch::tensor(subset, torch::kLong));
    ++count;
  } while (std::prev_permutation(member.begin(), member.end()));
  return sum / static_cast<double>(count);
}

double mean_over_drawn(const Domain& domain, int64_t keep, const at::Generator& generator) {
  double sum = 0;
  for (int64_t i = 0; i < kMostSubsets; ++i) {
    const auto order = torch::randperm(domain.probs.size(1), generator, torch::kLong);
    sum += accuracy_of(domain, order.slice(0, 0, keep));
  }
  return sum / static_cast<double>(kMostSubsets);
}

void check_active(const char* who, const torch::Tensor& active) {
  MOEKIT_CHECK(active.dim() == 2 && active.scalar_type() == torch::kBool, who,
               ": active must be [N, E] bool; got ", active.sizes(), " ", active.dtype());
}

void check_top_k(const char* who, double top_k, int64_t num_experts) {
  MOEKIT_CHECK(num_experts >= 1 && top_k >= 0 && top_k <= static_cast<double>(num_experts), who,
               ": top_k must be 0..E of E >= 1; got ", top_k, " and E = ", num_experts);
}

void check_retention(const torch::Tensor& probs, const torch::Tensor& outputs,
                     const torch::Tensor& labels, const torch::Tensor& mask, int64_t keep) {
  constexpr const char* kWho = "subset_retention";
  check_probs(kWho, probs);
  const int64_t tokens = probs.size(0);
  const int64_t num_experts = probs.size(1);
  MOEKIT_CHECK(outputs.dim() == 3 && outputs.size(0) == num_experts && outputs.size(1) == tokens &&
                   labels.dim() == 1 && labels.size(0) == tokens && mask.dim() == 1 &&
                   mask.size(0) == tokens && mask.scalar_type() == torch::kBool,
               kWho, ": with probs ", probs.sizes(),
               ", expert_log_probs must be [E, N, C], labels [N] ", "and mask [N] bool; got ",
               outputs.sizes(), ", ", labels.sizes(), " and ", mask.sizes(), " ", mask.dtype());
  MOEKIT_CHECK(keep >= 1 && keep <= num_experts, kWho, ": keep must be 1..", num_experts, "; got ",
               keep);
  check_numbers(kWho, "expert_log_probs", outputs);
  check_ids(kWho, "labels", labels, outputs.size(2));
}

}  // namespace

double sample_entropy(const torch::Tensor& probs, LogBase base) {
  check_probs("sample_entropy", probs);
  if (probs.size(0) == 0) return 0;
  const auto p = probs.detach().to(torch::kFloat64);
  const double nats = -torch::xlogy(p, p).sum(1).mean().item<double>();
  return base == LogBase::kBits ? nats / std::log(2.0) : nats;
}

double top1_mass(const torch::Tensor& probs) {
  check_probs("top1_mass", probs);
  if (probs.size(0) == 0) return 0;
  return std::get<0>(probs.max(1)).to(torch::kFloat64).mean().item<double>();
}

torch::Tensor coactivation(const torch::Tensor& active) {
  check_active("coactivation", active);
  const auto chosen = active.to(torch::kFloat64);
  const auto both = chosen.t().matmul(chosen);
  return both / both.diagonal().clamp_min(1).unsqueeze(0);
}

double coactivation_baseline(double top_k, int64_t num_experts) {
  check_top_k("coactivation_baseline", top_k, num_experts);
  return num_experts > 1 ? std::max(0.0, top_k - 1) / static_cast<double>(num_experts - 1) : 0;
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
  check_top_k("router_saturation_baseline", top_k, num_experts);
  return top_k / static_cast<double>(num_experts);
}

RoutingRegret routing_regret(const torch::Tensor& losses, const torch::Tensor& chosen) {
  MOEKIT_CHECK(losses.dim() == 2 && losses.size(0) >= 1 && chosen.dim() == 1 &&
                   losses.size(1) == chosen.size(0),
               "routing_regret: losses must be [E, N] with E >= 1 and chosen [N]; got ",
               losses.sizes(), " and ", chosen.sizes());
  check_ids("routing_regret", "chosen", chosen, losses.size(0));
  check_numbers("routing_regret", "losses", losses);
  if (chosen.numel() == 0) return {0, 0};
  const auto values = losses.detach().to(torch::kFloat64);
  const auto best = std::get<0>(values.min(0));
  const auto own = values.gather(0, chosen.unsqueeze(0)).squeeze(0);
  return {(own - best).mean().item<double>(), (values.mean(0) - best).mean().item<double>()};
}

SubsetRetention subset_retention(const torch::Tensor& probs, const torch::Tensor& expert_log_probs,
                                 const torch::Tensor& labels, const torch::Tensor& mask,
                                 int64_t keep, const at::Generator& generator) {
  check_retention(probs, expert_log_probs, labels, mask, keep);
  const int64_t num_experts = probs.size(1);
  const int64_t count = count_subsets(num_experts, keep);
  const bool exact = count <= kMostSubsets;
  SubsetRetention out{0, 0, 0, std::min(count, kMostSubsets), exact};
  const auto rows = mask.nonzero().squeeze(1);
  if (rows.numel() == 0) return out;
  const Domain domain{probs.detach().index_select(0, rows).to(torch::kFloat64),
                      expert_log_probs.detach().index_select(1, rows).to(torch::kFloat64).exp(),
                      labels.index_select(0, rows)};
  out.all = accuracy_of(domain, torch::arange(num_experts, torch::kLong));
  const auto most_used = nn::top_k_index(domain.probs.sum(0).unsqueeze(0), keep).squeeze(0);
  out.kept = accuracy_of(domain, most_used);
  out.random = exact ? mean_over_all(domain, keep) : mean_over_drawn(domain, keep, generator);
  return out;
}

}  // namespace moekit::metrics
