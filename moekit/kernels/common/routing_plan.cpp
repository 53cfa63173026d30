#include "moekit/kernels/common/routing_plan.h"

#include <cmath>
#include <limits>
#include <numeric>

#include "moekit/core/error.h"

namespace moekit::kernels {
namespace {

void check_sizes(std::int64_t num_tokens, std::int64_t num_experts, std::int64_t top_k) {
  MOEKIT_CHECK(num_tokens >= 0 && num_tokens <= std::numeric_limits<std::int32_t>::max(),
               "RoutingPlan: number of tokens must be 0..2^31-1; got ", num_tokens);
  MOEKIT_CHECK(num_experts >= 1, "RoutingPlan: num_experts must be at least 1; got ", num_experts);
  MOEKIT_CHECK(top_k >= 1 && top_k <= num_experts, "RoutingPlan: top_k must be 1..", num_experts,
               " (num_experts); got ", top_k);
}

}  // namespace

void RoutingPlan::build(std::int64_t tokens, std::int64_t experts, std::int64_t k,
                        const std::int64_t* expert_index, const float* combine_weight,
                        bool weights_sum_to_one) {
  check_sizes(tokens, experts, k);
  for (std::int64_t n = 0; n < tokens; ++n) {
    double sum = 0;
    for (std::int64_t j = n * k; j < (n + 1) * k; ++j) {
      MOEKIT_CHECK(expert_index[j] >= 0 && expert_index[j] < experts, "RoutingPlan: token ", n,
                   " is sent to expert ", expert_index[j], "; there are ", experts);
      if (combine_weight == nullptr) continue;
      MOEKIT_CHECK(std::isfinite(combine_weight[j]), "RoutingPlan: the combine weight of token ", n,
                   " for expert ", expert_index[j], " is ", combine_weight[j]);
      sum += static_cast<double>(combine_weight[j]);
    }
    MOEKIT_CHECK(!weights_sum_to_one || combine_weight == nullptr || std::fabs(sum - 1) <= 1e-3,
                 "RoutingPlan: the combine weights of token ", n, " sum to ", sum, "; wanted 1");
  }
  num_tokens = tokens;
  num_experts = experts;
  top_k = k;
  const std::int64_t total = tokens * k;
  offsets.assign(static_cast<std::size_t>(experts) + 1, 0);
  token.resize(static_cast<std::size_t>(total));
  assignment.resize(static_cast<std::size_t>(total));
  weight.resize(static_cast<std::size_t>(total));
  for (std::int64_t a = 0; a < total; ++a) ++offsets[static_cast<std::size_t>(expert_index[a]) + 1];
  std::partial_sum(offsets.begin(), offsets.end(), offsets.begin());
  // offsets[e] walks to the start of e + 1 while rows are filled in, and is then moved back.
  for (std::int64_t a = 0; a < total; ++a) {
    const auto row = static_cast<std::size_t>(offsets[static_cast<std::size_t>(expert_index[a])]++);
    token[row] = static_cast<std::int32_t>(a / k);
    assignment[row] = a;
    weight[row] = combine_weight == nullptr ? 1.0F : combine_weight[a];
  }
  for (auto e = static_cast<std::size_t>(experts); e > 0; --e) offsets[e] = offsets[e - 1];
  offsets[0] = 0;
  find_active();
}

void RoutingPlan::build_shared(std::int64_t tokens, std::int64_t experts) {
  check_sizes(tokens, experts, experts);
  num_tokens = tokens;
  num_experts = experts;
  top_k = experts;
  offsets.resize(static_cast<std::size_t>(experts) + 1);
  token.resize(static_cast<std::size_t>(tokens * experts));
  assignment.resize(token.size());
  weight.assign(token.size(), 1.0F);
  for (std::int64_t e = 0; e <= experts; ++e) offsets[static_cast<std::size_t>(e)] = e * tokens;
  for (std::int64_t row = 0; row < tokens * experts; ++row) {
    token[static_cast<std::size_t>(row)] = static_cast<std::int32_t>(row % tokens);
    assignment[static_cast<std::size_t>(row)] = row % tokens * experts + row / tokens;
  }
  find_active();
}

void RoutingPlan::find_active() {
  active.clear();
  for (std::int64_t e = 0; e < num_experts; ++e) {
    if (count(e) > 0) active.push_back(static_cast<std::int32_t>(e));
  }
}

}  // namespace moekit::kernels
