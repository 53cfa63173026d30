#include "moekit/nn/merge_cost.h"

#include <algorithm>

namespace moekit::nn {
namespace {

// A core with AVX-512 does about 100 GFLOP/s in products of float32 and moves about 10 GB/s.
constexpr double kOperationsPerByte = 10;
constexpr double kMergeBytes = 4;  // weights are merged in float32 at least

double weights(const LinearWork& work) {
  return static_cast<double>(work.input_size) * static_cast<double>(work.output_size);
}

LinearCost merge_cost(const LinearWork& work, MergeBy by) {
  const auto gates = static_cast<double>(work.gates);
  const auto experts = static_cast<double>(work.num_experts);
  const double chosen = gates * static_cast<double>(work.top_k);
  const double each =
      weights(work) * std::max<double>(static_cast<double>(work.element_bytes), kMergeBytes);
  // What is gathered is read, written and read again; merged weights are written.
  if (by == MergeBy::kGather) return {2 * chosen * weights(work), (3 * chosen + gates) * each};
  return {2 * gates * experts * weights(work), (experts + gates) * each};
}

}  // namespace

double LinearCost::time() const { return operations / kOperationsPerByte + bytes; }

LinearCost routed_cost(const LinearWork& work) {
  const auto element = static_cast<double>(work.element_bytes);
  const double rows = static_cast<double>(work.tokens) * static_cast<double>(work.top_k);
  const double used =
      std::min<double>(static_cast<double>(work.num_experts),
                       static_cast<double>(work.gates) * static_cast<double>(work.top_k));
  // A row is gathered (read, written), read by its expert, written, and read again to be weighted.
  const double row_bytes =
      (3 * static_cast<double>(work.input_size) + 2 * static_cast<double>(work.output_size)) *
      element;
  return {2 * rows * weights(work), used * weights(work) * element + rows * row_bytes};
}

LinearCost merged_cost(const LinearWork& work, MergeBy by, bool merge) {
  const auto element = static_cast<double>(work.element_bytes);
  const auto tokens = static_cast<double>(work.tokens);
  LinearCost cost = merge ? merge_cost(work, by) : LinearCost{};
  cost.operations += 2 * tokens * weights(work);
  cost.bytes += (static_cast<double>(work.gates) * weights(work) +
                 tokens * static_cast<double>(work.input_size + work.output_size)) *
                element;
  return cost;
}

MergeBy merge_by(const LinearWork& work) {
  if (2 * work.top_k >= work.num_experts) return MergeBy::kProduct;
  return merge_cost(work, MergeBy::kGather).time() <= merge_cost(work, MergeBy::kProduct).time()
             ? MergeBy::kGather
             : MergeBy::kProduct;
}

double merged_bytes(const LinearWork& work, MergeBy by) {
  const double copies = by == MergeBy::kGather ? 1 + static_cast<double>(work.top_k) : 1;
  return static_cast<double>(work.gates) * copies * weights(work) *
         std::max<double>(static_cast<double>(work.element_bytes), kMergeBytes);
}

LinearPath choose_path(const LinearWork& work, double most_bytes) {
  const MergeBy by = merge_by(work);
  if (merged_bytes(work, by) > most_bytes) return LinearPath::kRouted;
  return merged_cost(work, by).time() < routed_cost(work).time() ? LinearPath::kMerged
                                                                 : LinearPath::kRouted;
}

}  // namespace moekit::nn
