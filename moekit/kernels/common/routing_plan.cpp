#include "moekit/kernels/common/routing_plan.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

#include "moekit/core/error.h"

namespace moekit::kernels {
namespace {

void check_sizes(std::int64_t num_tokens, std::int64_t num_experts) {
  MOEKIT_CHECK(num_tokens >= 0 && num_tokens <= std::numeric_limits<std::int32_t>::max(),
               "RoutingPlan: number of tokens must be 0..2^31-1; got ", num_tokens);
  MOEKIT_CHECK(num_experts >= 1, "RoutingPlan: num_experts must be at least 1; got ", num_experts);
}

void check_list(const AssignmentList& list) {
  check_sizes(list.num_tokens, list.num_experts);
  MOEKIT_CHECK(list.size >= 0 && (list.token != nullptr || list.size == 0 ||
                                  (list.num_tokens > 0 && list.size % list.num_tokens == 0)),
               "RoutingPlan: ", list.size, " assignments are no whole number for each of ",
               list.num_tokens, " tokens");
}

/// Token of an assignment of a list.
struct TokenOf {
  explicit TokenOf(const AssignmentList& list)
      : token(list.token), per_token(list.num_tokens > 0 ? list.size / list.num_tokens : 1) {}
  std::int64_t operator()(std::int64_t assignment) const {
    return token != nullptr ? token[assignment] : assignment / per_token;
  }
  const std::int64_t* token;
  std::int64_t per_token;
};

/// What an order has said of an assignment.
enum Mark : char { kUnseen, kTaken, kDropped };

}  // namespace

/// Counts the rows of each expert into offsets[expert + 1], and what is beyond the capacity.
void RoutingPlan::count_rows(const AssignmentList& list, std::span<const std::int64_t> capacity,
                             const std::int64_t* order) {
  const TokenOf token_of(list);
  offsets.assign(static_cast<std::size_t>(num_experts) + 1, 0);
  dropped.assign(static_cast<std::size_t>(num_experts), 0);
  marks_.assign(order != nullptr ? static_cast<std::size_t>(list.size) : 0, kUnseen);
  for (std::int64_t i = 0; i < list.size; ++i) {
    const std::int64_t a = order != nullptr ? order[i] : i;
    MOEKIT_CHECK(order == nullptr || (a >= 0 && a < list.size), "RoutingPlan: order[", i, "] is ",
                 a, "; there are ", list.size, " assignments");
    const std::int64_t expert = list.expert[a];
    MOEKIT_CHECK(expert >= 0 && expert < num_experts, "RoutingPlan: token ", token_of(a),
                 " is sent to expert ", expert, "; there are ", num_experts);
    MOEKIT_CHECK(token_of(a) >= 0 && token_of(a) < num_tokens, "RoutingPlan: assignment ", a,
                 " is of token ", token_of(a), "; there are ", num_tokens);
    auto& rows = offsets[static_cast<std::size_t>(expert) + 1];
    const bool is_full = !capacity.empty() && rows == capacity[capacity.size() == 1 ? 0 : expert];
    ++(is_full ? dropped[static_cast<std::size_t>(expert)] : rows);
    if (order == nullptr) continue;
    char& mark = marks_[static_cast<std::size_t>(a)];
    MOEKIT_CHECK(mark == kUnseen, "RoutingPlan: order has assignment ", a, " twice");
    mark = is_full ? kDropped : kTaken;
  }
}

void RoutingPlan::build(const AssignmentList& list, std::int64_t capacity,
                        const std::int64_t* order) {
  build(list, std::span(&capacity, capacity == 0 ? 0 : 1), order);
}

void RoutingPlan::build(const AssignmentList& list, std::span<const std::int64_t> capacity,
                        const std::int64_t* order) {
  check_list(list);
  MOEKIT_CHECK(
      capacity.size() <= 1 || static_cast<std::int64_t>(capacity.size()) == list.num_experts,
      "RoutingPlan: wanted one capacity, or one for each of ", list.num_experts, " experts; got ",
      capacity.size());
  for (const auto limit : capacity) {
    MOEKIT_CHECK(limit >= 1, "RoutingPlan: capacity must be at least 1; got ", limit);
  }
  num_tokens = list.num_tokens;
  num_experts = list.num_experts;
  num_assignments = list.size;
  count_rows(list, capacity, order);
  std::partial_sum(offsets.begin(), offsets.end(), offsets.begin());
  const auto rows = static_cast<std::size_t>(offsets.back());
  token.resize(rows);
  assignment.resize(rows);
  weight.resize(rows);
  const TokenOf token_of(list);
  // offsets[e] walks through the rows of e while they are filled in, and is then moved back. What
  // is beyond the capacity finds the rows of its expert full, or was marked where an order says
  // who is.
  std::vector<std::int64_t>& next = offsets;
  const bool drops = num_dropped() > 0;
  const std::vector<std::int64_t> ends =
      drops ? std::vector<std::int64_t>(offsets.begin() + 1, offsets.end())
            : std::vector<std::int64_t>();
  for (std::int64_t a = 0; a < list.size; ++a) {
    const auto e = static_cast<std::size_t>(list.expert[a]);
    if (drops &&
        (order != nullptr ? marks_[static_cast<std::size_t>(a)] == kDropped : next[e] == ends[e])) {
      continue;
    }
    const auto row = static_cast<std::size_t>(next[e]++);
    token[row] = static_cast<std::int32_t>(token_of(a));
    assignment[row] = a;
    weight[row] = list.weight == nullptr ? 1.0F : list.weight[a];
  }
  for (auto e = static_cast<std::size_t>(num_experts); e > 0; --e) offsets[e] = offsets[e - 1];
  offsets[0] = 0;
  find_active();
}

void RoutingPlan::build(std::int64_t tokens, std::int64_t experts, std::int64_t k,
                        const std::int64_t* expert_index, const float* combine_weight,
                        bool weights_sum_to_one) {
  check_sizes(tokens, experts);
  MOEKIT_CHECK(k >= 1 && k <= experts, "RoutingPlan: top_k must be 1..", experts,
               " (num_experts); got ", k);
  for (std::int64_t n = 0; combine_weight != nullptr && n < tokens; ++n) {
    double sum = 0;
    for (std::int64_t j = n * k; j < (n + 1) * k; ++j) {
      MOEKIT_CHECK(std::isfinite(combine_weight[j]), "RoutingPlan: the combine weight of token ", n,
                   " for expert ", expert_index[j], " is ", combine_weight[j]);
      sum += static_cast<double>(combine_weight[j]);
    }
    MOEKIT_CHECK(!weights_sum_to_one || std::fabs(sum - 1) <= 1e-3,
                 "RoutingPlan: the combine weights of token ", n, " sum to ", sum, "; wanted 1");
  }
  build({tokens, experts, tokens * k, nullptr, expert_index, combine_weight});
}

void RoutingPlan::build_shared(std::int64_t tokens, std::int64_t experts) {
  check_sizes(tokens, experts);
  num_tokens = tokens;
  num_experts = experts;
  num_assignments = tokens * experts;
  offsets.resize(static_cast<std::size_t>(experts) + 1);
  token.resize(static_cast<std::size_t>(tokens * experts));
  assignment.resize(token.size());
  weight.assign(token.size(), 1.0F);
  dropped.assign(static_cast<std::size_t>(experts), 0);
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
