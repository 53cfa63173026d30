#include "moekit/merge/aggregate.h"

#include <torch/torch.h>

#include <algorithm>
#include <cmath>

namespace moekit::merge {
namespace {

void check_weights(const char* what, int64_t number, const WeightSet& set,
                   const WeightSet& current) {
  MOEKIT_CHECK(set.size() == current.size(), "aggregate: ", what, " ", number, " has ", set.size(),
               " tensors; the current weights have ", current.size());
  for (size_t t = 0; t < set.size(); ++t) {
    const auto& [name, tensor] = set[t];
    const auto& [wanted, like] = current[t];
    MOEKIT_CHECK(name == wanted && tensor.sizes() == like.sizes() &&
                     tensor.scalar_type() == like.scalar_type(),
                 "aggregate: ", what, " ", number, " has ", name, " ", tensor.dtype(), " ",
                 tensor.sizes(), " where the current weights have ", wanted, " ", like.dtype(), " ",
                 like.sizes());
  }
}

/// [P] float64
torch::Tensor row_of(const WeightSet& set) {
  std::vector<torch::Tensor> parts;
  for (const auto& [name, tensor] : set) {
    if (!tensor.is_floating_point()) continue;
    parts.push_back(tensor.detach().reshape({-1}).to(torch::kFloat64));
  }
  MOEKIT_CHECK(!parts.empty(), "aggregate: the models have no tensor of real numbers");
  return torch::cat(parts);
}

/// The numbers as tensors like those of `current`, with the counters of `counters`.
WeightSet set_of(const torch::Tensor& row, const WeightSet& current, const WeightSet& counters) {
  WeightSet out;
  int64_t begin = 0;
  for (size_t t = 0; t < current.size(); ++t) {
    const auto& [name, like] = current[t];
    if (!like.is_floating_point()) {
      out.emplace_back(name, counters[t].second.detach().clone());
      continue;
    }
    const auto part = row.slice(0, begin, begin + like.numel()).reshape(like.sizes());
    out.emplace_back(name, part.to(like.scalar_type(), /*non_blocking=*/false, /*copy=*/true));
    begin += like.numel();
  }
  return out;
}

/// The mean by shares. From the model with the largest share on by differences: equal models leave
/// exact zeros, and a share of one gives the model itself, bit for bit.
torch::Tensor mean_of(const torch::Tensor& models, const std::vector<double>& rho) {
  const auto base = models[std::max_element(rho.begin(), rho.end()) - rho.begin()];
  auto mean = base.clone();
  for (size_t k = 0; k < rho.size(); ++k) {
    if (rho[k] > 0) mean.add_(models[static_cast<int64_t>(k)] - base, rho[k]);
  }
  return mean;
}

bool all_finite(const torch::Tensor& row) { return torch::isfinite(row).all().item<bool>(); }

}  // namespace

Aggregation aggregate(const Aggregator& method, const std::vector<WeightSet>& models,
                      const WeightSet& reference, const WeightSet& current) {
  const torch::NoGradGuard no_grad;
  MOEKIT_CHECK(!models.empty(), "aggregate: needs at least one model");
  Aggregation out;
  out.rho.assign(models.size(), 0);
  std::vector<torch::Tensor> finite;
  std::vector<size_t> accepted;
  for (size_t k = 0; k < models.size(); ++k) {
    check_weights("model", static_cast<int64_t>(k), models[k], current);
    auto row = row_of(models[k]);
    if (!all_finite(row)) {
      out.refused.push_back(static_cast<int64_t>(k));
      continue;
    }
    accepted.push_back(k);
    finite.push_back(std::move(row));
  }
  const bool has_reference = method.needs_reference();
  if (has_reference) check_weights("reference", 0, reference, current);
  const WeightSet& counters = has_reference ? reference : current;
  if (finite.empty() && method.needs_models()) {
    out.weights = set_of(row_of(current), current, current);
    return out;
  }
  WeightRows rows;
  if (!finite.empty()) rows.models = torch::stack(finite);
  rows.offsets.push_back(0);
  for (const auto& [name, tensor] : current) {
    if (tensor.is_floating_point()) rows.offsets.push_back(rows.offsets.back() + tensor.numel());
  }
  if (!rows.models.defined()) {
    rows.models = torch::empty({0, rows.offsets.back()}, torch::kFloat64);
  }
  if (has_reference) {
    rows.reference = row_of(reference);
    if (!all_finite(rows.reference)) {
      throw NumericError("aggregate: the server's reference has numbers that are not finite");
    }
  }
  const Mixture mixture = method.mix(rows);
  for (size_t i = 0; i < accepted.size(); ++i) out.rho[accepted[i]] = mixture.rho[i];
  out.reference = mixture.reference;
  const auto values = mixture.values.defined() ? mixture.values : mean_of(rows.models, mixture.rho);
  out.weights = set_of(values, current, counters);
  return out;
}

std::vector<double> squared_distances(const WeightRows& rows, int64_t begin, int64_t end) {
  const auto reference = rows.reference.slice(0, begin, end);
  std::vector<double> distances;
  for (int64_t k = 0; k < rows.size(); ++k) {
    const auto difference = rows.models[k].slice(0, begin, end) - reference;
    distances.push_back(difference.dot(difference).item<double>());
  }
  return distances;
}

std::vector<double> shares_of_least(const std::vector<double>& values) {
  const double least = *std::min_element(values.begin(), values.end());
  const auto count = static_cast<double>(std::count(values.begin(), values.end(), least));
  std::vector<double> shares;
  for (const double value : values) shares.push_back(value == least ? 1 / count : 0);
  return shares;
}

std::vector<double> softmax_of(const std::vector<double>& scores) {
  const double largest = *std::max_element(scores.begin(), scores.end());
  std::vector<double> shares;
  double sum = 0;
  for (const double score : scores) {
    shares.push_back(std::exp(score - largest));
    sum += shares.back();
  }
  for (double& share : shares) share /= sum;
  return shares;
}

}  // namespace moekit::merge
