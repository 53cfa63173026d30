#include "moekit/metrics/load.h"

#include <algorithm>
#include <cmath>

#include "moekit/core/error.h"
#include "moekit/metrics/checks.h"
#include "moekit/metrics/information.h"

namespace moekit::metrics {

torch::Tensor expert_load(const torch::Tensor& expert, int64_t num_experts) {
  MOEKIT_CHECK(expert.dim() == 1 && num_experts >= 1,
               "expert_load: expert must be [A] of E >= 1; got ", expert.sizes(),
               " and E = ", num_experts);
  check_ids("expert_load", "expert", expert, num_experts);
  return torch::bincount(expert, {}, num_experts).to(torch::kFloat64);
}

LoadStats load_stats(const torch::Tensor& load) {
  MOEKIT_CHECK(load.dim() == 1 && load.size(0) >= 1, "load_stats: load must be [E]; got ",
               load.sizes());
  check_numbers("load_stats", "load", load, 0);
  const auto values = load.detach().to(torch::kFloat64).contiguous();
  const auto experts = static_cast<double>(values.size(0));
  const double total = values.sum().item<double>();
  LoadStats out{};
  const auto fraction = total > 0 ? values / total : torch::zeros_like(values);
  out.fraction.assign(fraction.data_ptr<double>(), fraction.data_ptr<double>() + fraction.numel());
  out.entropy_bits = entropy(values);
  std::vector<double> sorted = out.fraction;
  std::sort(sorted.begin(), sorted.end());
  double squares = 0;
  double ranked = 0;
  for (size_t e = 0; e < sorted.size(); ++e) {
    const double deviation = sorted[e] * experts - 1;
    squares += total > 0 ? deviation * deviation : 0;
    ranked += static_cast<double>(e + 1) * sorted[e];
    if (out.fraction[e] > 0.01 / experts) {
      ++out.experts_used;
    } else {
      out.dead.push_back(static_cast<int64_t>(e));
    }
  }
  out.variation = std::sqrt(squares / experts);
  out.gini = total > 0 ? (2 * ranked - (experts + 1)) / experts : 0;
  return out;
}

double max_violation(const torch::Tensor& load) {
  const double mean = load.mean().item<double>();
  return mean > 0 ? load.max().item<double>() / mean - 1 : 0;
}

double activation_share(const torch::Tensor& load) {
  constexpr double kOfEqualShare = 0.1;
  const double mean = load.mean().item<double>();
  if (mean <= 0) return 0;
  return load.ge(kOfEqualShare * mean).to(torch::kFloat64).mean().item<double>();
}

}  // namespace moekit::metrics
