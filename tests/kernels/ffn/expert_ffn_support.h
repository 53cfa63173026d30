// Banks of random experts and plans for the tests of the expert kernels.
#pragma once

#include <random>
#include <vector>

#include "moekit/kernels/ffn/expert_ffn.h"

namespace moekit::kernels {

inline std::vector<float> random_values(std::mt19937& generator, std::int64_t count,
                                        float scale = 1) {
  std::normal_distribution<float> normal(0, scale);
  std::vector<float> values(static_cast<std::size_t>(count));
  for (auto& value : values) value = normal(generator);
  return values;
}

/// Stacked parameters of a bank, [E, ...].
struct Parameters {
  Parameters() = default;
  Parameters(const FfnShape& s, std::mt19937& generator) {
    const std::int64_t e = s.num_experts;
    const auto in_scale = 1 / std::sqrt(static_cast<float>(s.hidden_size));
    const auto out_scale = 1 / std::sqrt(static_cast<float>(s.intermediate_size));
    if (is_gated(s.activation)) {
      gate = random_values(generator, e * s.intermediate_size * s.hidden_size, in_scale);
    }
    up = random_values(generator, e * s.intermediate_size * s.hidden_size, in_scale);
    down = random_values(generator, e * s.output_size * s.intermediate_size, out_scale);
    if (!s.bias) return;
    if (is_gated(s.activation)) gate_bias = random_values(generator, e * s.intermediate_size, 0.1F);
    up_bias = random_values(generator, e * s.intermediate_size, 0.1F);
    down_bias = random_values(generator, e * s.output_size, 0.1F);
  }
  std::vector<float> gate, up, down, gate_bias, up_bias, down_bias;

  template <typename Pointers>
  Pointers pointers() {
    const auto at = [](std::vector<float>& v) { return v.empty() ? nullptr : v.data(); };
    return {at(gate), at(up), at(down), at(gate_bias), at(up_bias), at(down_bias)};
  }
  ExpertMatrices of_expert(const FfnShape& s, std::int64_t e) {
    const auto at = [&](std::vector<float>& v, std::int64_t size) {
      return v.empty() ? nullptr : v.data() + e * size;
    };
    const std::int64_t f = s.intermediate_size;
    return {at(gate, f * s.hidden_size),
            at(up, f * s.hidden_size),
            at(down, s.output_size * f),
            at(gate_bias, f),
            at(up_bias, f),
            at(down_bias, s.output_size)};
  }
};

inline PackedExperts pack_all(const FfnShape& shape, WeightFormat format, Parameters& parameters) {
  PackedExperts packed(shape, format);
  for (std::int64_t e = 0; e < shape.num_experts; ++e) {
    packed.pack(e, parameters.of_expert(shape, e));
  }
  return packed;
}

/// Each token to K different random experts of the first `used` ones, with random weights.
inline RoutingPlan random_plan(std::mt19937& generator, std::int64_t tokens, std::int64_t experts,
                               std::int64_t top_k, std::int64_t used) {
  std::vector<std::int64_t> order(static_cast<std::size_t>(used)), index;
  for (std::int64_t e = 0; e < used; ++e) order[static_cast<std::size_t>(e)] = e;
  std::vector<float> weights;
  std::uniform_real_distribution<float> uniform(0.1F, 1);
  for (std::int64_t n = 0; n < tokens; ++n) {
    std::shuffle(order.begin(), order.end(), generator);
    for (std::int64_t k = 0; k < top_k; ++k) {
      index.push_back(order[static_cast<std::size_t>(k)]);
      weights.push_back(uniform(generator));
    }
  }
  RoutingPlan plan;
  plan.build(tokens, experts, top_k, index.data(), weights.data());
  return plan;
}

/// max |a - b| / max |b|.
inline double relative_error(const std::vector<float>& a, const std::vector<float>& b) {
  double error = 0, size = 1e-30;
  for (std::size_t i = 0; i < b.size(); ++i) {
    error = std::max(error, std::fabs(static_cast<double>(a[i]) - static_cast<double>(b[i])));
    size = std::max(size, std::fabs(static_cast<double>(b[i])));
    if (a[i] != a[i]) return 1e30;
  }
  return error / size;
}

/// A pool and a workspace for tests.
struct Runner {
  explicit Runner(int threads = 2) : pool(threads) {}
  ThreadPool pool;
  Workspace workspace;
  Execution on(Isa isa) { return {&pool, &workspace, isa}; }
};

}  // namespace moekit::kernels
