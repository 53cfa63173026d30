#pragma once

#include <string>
#include <vector>

#include "moekit/core/enum_names.h"
#include "moekit/core/field_rule.h"
#include "moekit/nn/routing.h"

namespace moekit::nn {

/// Which assignments an expert takes when more want it than its capacity. Ties go by the list.
enum class CapacityPriority {
  kOrder,   ///< the list's first ones: those of the first tokens
  kRank,    ///< all tokens' first choices, then their second ones, ... (Lepikhin et al. 2020)
  kWeight,  ///< those of the largest weight (batch priority, Riquelme et al. 2021)
};

/// How many assignments an expert takes, and which.
struct CapacityOptions {
  double factor = 0;        ///< C = ceil(factor * A / E), see `capacity_of`; 0: dropless
  double eval_factor = -1;  ///< the same outside of training; -1: as in training
  int64_t least = 1;        ///< C is at least this
  /// C of an expert that computes over that of one without computation (Jin et al. 2024, eq. 8).
  double tau = 1;
  CapacityPriority priority = CapacityPriority::kOrder;
  /// Weights of a token's assignments that are left are scaled to the sum of all its weights.
  bool renormalize = false;

  bool operator==(const CapacityOptions&) const = default;
  /// Of training or of evaluation.
  double factor_in(bool training) const {
    return training || eval_factor < 0 ? factor : eval_factor;
  }

  template <typename Field>
  void visit(Field&& field) {
    field("capacity_factor", factor, "of the sparse layer; 0: dropless", at_least(0));
    field("eval_capacity_factor", eval_factor, "outside of training; -1: as in training",
          at_least(-1));
    field("min_capacity", least, "assignments an expert takes at least", at_least(1));
    field("capacity_tau", tau,
          "capacity of a feed-forward expert over that of one without computation", above(0));
    field("capacity_priority", priority, "who stays: first tokens, first choices, largest weights");
    field("renormalize_dropped", renormalize, "a token's left weights keep the sum of all");
  }
};

/// @param top_k  of the router; 0: tokens differ, or go to all
/// @param num_free  experts that compute nothing
/// @param where  stands before a key's name: "model.", or "MoE: "
/// @throws ArgumentError naming the key for a factor or tau out of range, a least below 1, and
///         options without effect: of a layer that never drops, weights of one choice, experts that
///         all compute.
void check_capacity(const CapacityOptions& options, int64_t top_k, int64_t num_free,
                    const std::string& where);

/// C of this routing, 1..N, one for all experts, or, with a tau, of each [E]: of A assignments an
/// expert without computation takes factor * A / (tau N_F + N_Z) and one of the N_F others tau
/// times as many; none (no limit) for factor 0. Source of the latter: Jin et al. 2024,
/// arXiv:2410.07348, eq. 8, where T is taken for the number of assignments, as half of them would
/// be dropped else.
/// @param num_computing  N_F, which stand before the N_Z others
std::vector<int64_t> capacity_of(const CapacityOptions& options, bool training,
                                 const Routing& routing, int64_t num_computing);

/// The order in which experts take the assignments of a list, a permutation of 0..A-1 [A] int64;
/// undefined for the list's own. A token's choices are ranked as the list has them, and by their
/// logits where it goes to all experts.
torch::Tensor capacity_order(CapacityPriority priority, const Routing& routing);

/// Weights [A] in which those of a token's assignments that the plan holds sum to what all its
/// weights sum to; a token that lost all of them keeps them. Gradient flows to `weight`.
/// @throws ArgumentError naming token and weight for a negative weight.
torch::Tensor renormalize_kept(const torch::Tensor& weight, const Routing& routing,
                               const RoutingPlan& plan);

}  // namespace moekit::nn

template <>
struct moekit::EnumNames<moekit::nn::CapacityPriority> {
  static constexpr std::array<std::pair<nn::CapacityPriority, std::string_view>, 3> kTable{{
      {nn::CapacityPriority::kOrder, "order"},
      {nn::CapacityPriority::kRank, "rank"},
      {nn::CapacityPriority::kWeight, "weight"},
  }};
};
