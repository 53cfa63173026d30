#pragma once

#include <cstdint>

#include "moekit/core/enum_names.h"

namespace moekit::nn {

/// How a linear layer of experts computes sum_i g_i (W_i x + b_i), where tokens share gates.
enum class LinearPath {
  kAuto,    ///< whichever of the two the cost model says is faster
  kRouted,  ///< each chosen expert on its tokens, the outputs weighted
  kMerged,  ///< (sum_i g_i W_i) x + sum_i g_i b_i
};

/// How the weights of G gates are merged. The numbers are the same to rounding.
enum class MergeBy {
  kGather,   ///< the chosen experts' weights are copied out of the stack, then summed
  kProduct,  ///< gates [G, E], zero for those not chosen, times the whole stack [E, O * D]
};

/// A layer and what it is applied to.
struct LinearWork {
  int64_t gates = 1;   ///< G: groups of tokens that have a gate of their own
  int64_t tokens = 1;  ///< N, of all groups together
  int64_t num_experts = 1;
  int64_t top_k = 1;  ///< K, 1..E
  int64_t input_size = 1;
  int64_t output_size = 1;
  int64_t element_bytes = 4;  ///< of a weight
};

/// What a forward pass takes: operations (2 a multiply-add) of matrix products, and bytes of
/// weights and rows that are read and written.
struct LinearCost {
  double operations = 0;
  double bytes = 0;

  /// In units of a byte's time: a byte takes as long as kOperationsPerByte operations.
  double time() const;
};

LinearCost routed_cost(const LinearWork& work);
/// @param merge  whether the weights have to be merged first; else they are there
LinearCost merged_cost(const LinearWork& work, MergeBy by, bool merge = true);

/// Gathers where 2 K < E, as the released code of MEO does, unless copying costs more than the
/// product: the more so the more gates there are, since the product reads the stack once for all.
MergeBy merge_by(const LinearWork& work);

/// Bytes that merging holds at a time, in float32 at least: the merged weights, and those gathered.
double merged_bytes(const LinearWork& work, MergeBy by);

/// The path with the smaller time; the routed one where merged_bytes() is above `most_bytes`. With
/// many tokens a gate, merging saves K - 1 of K products; with few, reading and writing G merged
/// matrices costs more than it saves. That G K is above E, so that there is more to merge than the
/// stack holds, says nothing by itself: for G = 8, K = 4, E = 16 and 128 tokens a gate merging is
/// more than twice as fast (docs/performance.md). A function of sizes alone, so that a run takes
/// the same path on every machine.
LinearPath choose_path(const LinearWork& work, double most_bytes);

}  // namespace moekit::nn

template <>
struct moekit::EnumNames<moekit::nn::LinearPath> {
  static constexpr std::array<std::pair<nn::LinearPath, std::string_view>, 3> kTable{{
      {nn::LinearPath::kAuto, "auto"},
      {nn::LinearPath::kRouted, "routed"},
      {nn::LinearPath::kMerged, "merged"},
  }};
};
