#include "moekit/bench/routing.h"

#include <cmath>
#include <cstring>
#include <numeric>

#include "moekit/core/error.h"
#include "moekit/kernels/common/top_k.h"
#include "moekit/metrics/routing_trace.h"

namespace moekit::bench {
namespace {

constexpr std::int64_t kPlans = 16;  // different routings that the runs take in turn

/// K different experts with odds `odds`, by the largest of log(odds) + Gumbel noise.
void draw_experts(const std::vector<double>& odds, std::int64_t top_k, std::mt19937_64& generator,
                  std::int64_t* to) {
  std::vector<double> keys;
  std::uniform_real_distribution<double> uniform(1e-12, 1);
  for (size_t e = 0; e < odds.size(); ++e) {
    const double gumbel = -std::log(-std::log(uniform(generator)));
    keys.push_back(std::log(odds[e]) + gumbel);
  }
  kernels::top_k(keys.data(), 1, static_cast<std::int64_t>(keys.size()), top_k, to);
}

}  // namespace

RoutingSource::RoutingSource(RoutingKind kind, const std::filesystem::path& trace,
                             const LayerShape& shape)
    : kind_(kind), shape_(shape), odds_(static_cast<size_t>(shape.num_experts), 1.0) {
  if (kind == RoutingKind::kZipf) {
    for (size_t e = 0; e < odds_.size(); ++e) odds_[e] = 1.0 / static_cast<double>(e + 1);
  }
  if (kind == RoutingKind::kTrace) load_trace(trace);
}

void RoutingSource::load_trace(const std::filesystem::path& path) {
  const auto trace = metrics::read_trace(path);
  MOEKIT_CHECK(!trace.layers.empty(), path.string(), ": has no layer");
  const auto& layer = trace.layers.front();
  const auto index = layer.expert_index();
  MOEKIT_CHECK(
      layer.num_experts() == shape_.num_experts && index.defined() && index.size(1) >= shape_.top_k,
      path.string(), ": layer ", layer.name, " has ", layer.mean_top_k(), " of ",
      layer.num_experts(), " experts a token; shape ", shape_.name, " has ", shape_.top_k, " of ",
      shape_.num_experts);
  trace_ = index.slice(1, 0, shape_.top_k).contiguous();
}

Routed RoutingSource::make_one(std::int64_t tokens, std::int64_t turn,
                               std::mt19937_64& generator) const {
  Routed routed;
  routed.index = torch::empty({tokens, shape_.top_k}, torch::kLong);
  auto* index = routed.index.data_ptr<std::int64_t>();
  for (std::int64_t n = 0; n < tokens; ++n) {
    std::int64_t* row = index + n * shape_.top_k;
    if (kind_ == RoutingKind::kOne) {
      std::iota(row, row + shape_.top_k, std::int64_t{0});
    } else if (kind_ == RoutingKind::kTrace) {
      const std::int64_t from = (turn * tokens + n) % trace_.size(0);
      std::memcpy(row, trace_[from].data_ptr<std::int64_t>(),
                  static_cast<size_t>(shape_.top_k) * sizeof(std::int64_t));
    } else {
      draw_experts(odds_, shape_.top_k, generator, row);
    }
  }
  routed.weight = torch::full({tokens, shape_.top_k}, 1.0 / static_cast<double>(shape_.top_k));
  routed.plan.build(tokens, shape_.num_experts, shape_.top_k, index,
                    routed.weight.data_ptr<float>());
  if (shape_.shared_size > 0) routed.shared.build_shared(tokens, 1);
  return routed;
}

std::vector<Routed> RoutingSource::make(std::int64_t tokens, std::mt19937_64& generator) const {
  std::vector<Routed> plans;
  for (std::int64_t i = 0; i < kPlans; ++i) plans.push_back(make_one(tokens, i, generator));
  return plans;
}

double mean_distinct(const std::vector<Routed>& plans) {
  double sum = 0;
  for (const auto& p : plans) sum += static_cast<double>(p.plan.active.size());
  return sum / static_cast<double>(plans.size());
}

}  // namespace moekit::bench
