#pragma once

#include <torch/types.h>

#include <vector>

#include "moekit/core/enum_names.h"

/// Shapes everywhere: N tokens (or samples), D hidden_size, F intermediate_size, E num_experts,
/// K top_k, C classes or capacity (said which), A <= N * K assignments after dropping.
namespace moekit::nn {

/// How the K chosen experts are weighted.
enum class CombineWeights {
  kProbs,         ///< their share of the softmax over all E: the rest of the mass is lost
  kRenormalized,  ///< softmax over the K chosen logits alone: sums to 1
  kCleanProbs,    ///< as kProbs, of the logits without noise: noise decides who, not how much
  kLogits,        ///< the chosen logits themselves, noise included
};

/// What a router decided for N tokens. Gradient flows through `logits`, `probs` and
/// `combine_weight`; `expert_index` carries none.
struct Routing {
  torch::Tensor logits;          ///< [N, E], with noise where the router adds any
  torch::Tensor probs;           ///< [N, E], softmax of `logits`
  torch::Tensor expert_index;    ///< [N, K], int64; for K = E simply 0..E-1 in every row
  torch::Tensor combine_weight;  ///< [N, K]
  torch::Tensor clean_logits;    ///< [N, E] before noise; undefined without noise
  torch::Tensor noise_std;       ///< [N, E] or [1]; undefined without Gaussian noise

  int64_t num_tokens() const { return probs.size(0); }
  int64_t num_experts() const { return probs.size(1); }
  int64_t top_k() const { return expert_index.size(1); }
};

/// Softmax of the logits, then the K largest of each row.
/// @param logits  [N, E]
/// @param top_k   1..E, or 0 for all experts
/// @param clean_logits  [N, E] before noise was added; `logits` where undefined
/// @throws ArgumentError when top_k > E or logits are not a matrix.
Routing route(const torch::Tensor& logits, int64_t top_k = 0,
              CombineWeights weights = CombineWeights::kRenormalized,
              const torch::Tensor& clean_logits = {});

/// The argmax expert of every token, [N] int64.
torch::Tensor top1_expert(const Routing& routing);

/// Which assignment (token n, choice k) goes where: assignments sorted by expert, stable in n.
struct DispatchPlan {
  torch::Tensor assignment;      ///< [A] int64, flat index n * K + k, grouped by expert
  torch::Tensor token;           ///< [A] int64, n of every assignment
  std::vector<int64_t> offsets;  ///< [E + 1], expert e owns rows offsets[e] .. offsets[e+1]-1
  std::vector<int64_t> dropped;  ///< [E], assignments beyond the capacity
  int64_t top_k = 0;

  int64_t num_experts() const { return static_cast<int64_t>(offsets.size()) - 1; }
  int64_t count(int64_t expert) const {
    return offsets[static_cast<size_t>(expert) + 1] - offsets[static_cast<size_t>(expert)];
  }
  int64_t num_dropped() const;
};

/// @param expert_index  [N, K] int64, values 0..E-1
/// @param capacity      most assignments an expert takes, first come (lower token index) first
///                      served; 0 for no limit (dropless)
/// @throws ArgumentError naming the value when an index is outside 0..E-1.
DispatchPlan make_dispatch_plan(const torch::Tensor& expert_index, int64_t num_experts,
                                int64_t capacity = 0);

/// ceil(factor * N * K / E), at least 1; 0 (no limit) for factor 0.
/// Source: Lepikhin et al. 2020, arXiv:2006.16668, section 2.2, with rounding up.
int64_t expert_capacity(double capacity_factor, int64_t num_tokens, int64_t top_k,
                        int64_t num_experts);

/// Rows of `tokens` in the plan's order, [A, ...].
torch::Tensor dispatch(const torch::Tensor& tokens, const DispatchPlan& plan);

/// Weighted sum of the experts' rows back into [N, O]; a token whose assignments were all dropped
/// gets zeros. Gradient flows to `expert_rows` [A, O] and `combine_weight` [N, K].
torch::Tensor combine(const torch::Tensor& expert_rows, const DispatchPlan& plan,
                      const torch::Tensor& combine_weight);

}  // namespace moekit::nn

template <>
struct moekit::EnumNames<moekit::nn::CombineWeights> {
  static constexpr std::array<std::pair<nn::CombineWeights, std::string_view>, 4> kTable{{
      {nn::CombineWeights::kProbs, "probs"},
      {nn::CombineWeights::kRenormalized, "renormalized"},
      {nn::CombineWeights::kCleanProbs, "clean_probs"},
      {nn::CombineWeights::kLogits, "logits"},
  }};
};
