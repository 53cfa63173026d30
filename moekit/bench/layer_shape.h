#pragma once

#include <cstdint>
#include <string_view>
#include <vector>

#include "moekit/core/enum_names.h"

namespace moekit::bench {

/// A layer to measure: E experts (K chosen), D to F to D, SwiGLU, and shared experts as one more
/// of their joint size.
struct LayerShape {
  std::string_view name;
  std::int64_t num_experts, top_k, hidden_size, intermediate_size, shared_size;
  std::string_view source;

  /// Weights of one routed expert, of the shared one, of the layer.
  double expert_weights() const { return static_cast<double>(3 * hidden_size * intermediate_size); }
  double shared_weights() const { return static_cast<double>(3 * hidden_size * shared_size); }
  double layer_weights() const {
    return static_cast<double>(num_experts) * expert_weights() + shared_weights();
  }
};
const std::vector<LayerShape>& layer_shapes();
/// @throws ArgumentError naming what there is.
const LayerShape& find_layer_shape(std::string_view name);

enum class Pass { kForward, kTrain };

/// Where experts come from. zipf: an expert of rank r has odds 1 / r; one: every token goes to the
/// first K; trace: the first layer of a recorded routing trace.
enum class RoutingKind { kUniform, kZipf, kOne, kTrace };

}  // namespace moekit::bench

template <>
struct moekit::EnumNames<moekit::bench::Pass> {
  static constexpr std::array<std::pair<bench::Pass, std::string_view>, 2> kTable{{
      {bench::Pass::kForward, "forward"},
      {bench::Pass::kTrain, "train"},
  }};
};

template <>
struct moekit::EnumNames<moekit::bench::RoutingKind> {
  static constexpr std::array<std::pair<bench::RoutingKind, std::string_view>, 4> kTable{{
      {bench::RoutingKind::kUniform, "uniform"},
      {bench::RoutingKind::kZipf, "zipf"},
      {bench::RoutingKind::kOne, "one"},
      {bench::RoutingKind::kTrace, "trace"},
  }};
};
