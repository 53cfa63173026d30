#include "moekit/merge/aggregators/quadratic.h"

#include <torch/torch.h>

#include <algorithm>
#include <cmath>
#include <numeric>

#include "moekit/merge/simplex.h"

namespace moekit::merge {
namespace {

using Numbers = std::vector<double>;

constexpr double kGap = 1e-10;  // of the largest squared distance: shares to about 1e-5

double dot_of(const Numbers& a, const Numbers& b) {
  return std::inner_product(a.begin(), a.end(), b.begin(), 0.0);
}

Numbers product_of(const std::vector<Numbers>& matrix, const Numbers& vector) {
  Numbers out;
  for (const auto& row : matrix) out.push_back(dot_of(row, vector));
  return out;
}

/// The largest sum of a row's sizes: at least the largest eigenvalue.
double row_bound(const std::vector<Numbers>& matrix) {
  double bound = 0;
  for (const auto& row : matrix) {
    double sum = 0;
    for (const double value : row) sum += std::abs(value);
    bound = std::max(bound, sum);
  }
  return bound;
}

}  // namespace

std::vector<double> least_norm_shares(const std::vector<std::vector<double>>& gram, int64_t steps) {
  const size_t count = gram.size();
  Numbers rho(count, 1 / static_cast<double>(count));
  double largest = 0;
  for (size_t k = 0; k < count; ++k) largest = std::max(largest, gram[k][k]);
  const double bound = row_bound(gram);
  if (bound == 0) return rho;  // all models are the reference
  Numbers ahead = rho;
  double momentum = 1;
  for (int64_t step = 0; step < steps; ++step) {
    // With half the gradient, G rho, the gap is sum rho g - min g.
    const Numbers slope = product_of(gram, rho);
    if (dot_of(slope, rho) - *std::min_element(slope.begin(), slope.end()) <= kGap * largest) break;
    Numbers point = product_of(gram, ahead);
    for (size_t k = 0; k < count; ++k) point[k] = ahead[k] - point[k] / bound;
    const Numbers next = project_to_simplex(point);
    double turn = 0;
    for (size_t k = 0; k < count; ++k) turn += (ahead[k] - next[k]) * (next[k] - rho[k]);
    if (turn > 0) momentum = 1;
    const double after = (1 + std::sqrt(1 + 4 * momentum * momentum)) / 2;
    for (size_t k = 0; k < count; ++k) {
      ahead[k] = next[k] + (momentum - 1) / after * (next[k] - rho[k]);
    }
    momentum = after;
    rho = next;
  }
  return rho;
}

Mixture Quadratic::mix(const WeightRows& rows) const {
  // sum rho = 1, so that sum rho_k w_k - w_s is sum rho_k (w_k - w_s).
  const auto moved = rows.models - rows.reference;
  const auto products = torch::mm(moved, moved.t()).contiguous();
  std::vector<Numbers> gram;
  for (int64_t k = 0; k < rows.size(); ++k) {
    const auto* row = products.data_ptr<double>() + k * rows.size();
    gram.emplace_back(row, row + rows.size());
  }
  return {least_norm_shares(gram, options_.steps), 0, {}};
}

std::unique_ptr<Aggregator> make_quadratic(const QuadraticOptions& options, const AggregateSite&) {
  return std::make_unique<Quadratic>(options);
}

}  // namespace moekit::merge
