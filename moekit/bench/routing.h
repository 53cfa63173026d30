#pragma once

#include <torch/types.h>

#include <filesystem>
#include <random>
#include <vector>

#include "moekit/bench/layer_shape.h"
#include "moekit/kernels/common/routing_plan.h"

namespace moekit::bench {

/// Who goes where in one step, for the kernels and for libtorch.
struct Routed {
  torch::Tensor index;   ///< [N, K]
  torch::Tensor weight;  ///< [N, K], 1 / K
  kernels::RoutingPlan plan;
  kernels::RoutingPlan shared;  ///< empty where the shape has no shared experts
};

class RoutingSource {
 public:
  /// @param trace  of kTrace alone
  /// @throws ArgumentError when the trace is not of a layer such as `shape`; as read_trace()
  RoutingSource(RoutingKind kind, const std::filesystem::path& trace, const LayerShape& shape);

  /// Routings of N tokens that runs take in turn.
  std::vector<Routed> make(std::int64_t tokens, std::mt19937_64& generator) const;

 private:
  Routed make_one(std::int64_t tokens, std::int64_t turn, std::mt19937_64& generator) const;
  void load_trace(const std::filesystem::path& path);

  RoutingKind kind_;
  LayerShape shape_;
  std::vector<double> odds_;  // [E]
  torch::Tensor trace_;       // [tokens, K]
};

/// Mean number of experts with tokens, without shared ones.
double mean_distinct(const std::vector<Routed>& plans);

}  // namespace moekit::bench
