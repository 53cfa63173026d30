#include "moekit/merge/aggregators/coordinate_median.h"

#include <torch/torch.h>

#include <algorithm>

namespace moekit::merge {
namespace {

/// Gives half a number to those of `values` that are `wanted`, in equal shares.
void give(const double* values, double wanted, std::vector<double>& shares) {
  const auto count = static_cast<int64_t>(shares.size());
  const auto owners = static_cast<double>(std::count(values, values + count, wanted));
  for (size_t k = 0; k < shares.size(); ++k) {
    if (values[k] == wanted) shares[k] += 0.5 / owners;
  }
}

}  // namespace

Mixture CoordinateMedian::mix(const WeightRows& rows) const {
  const int64_t count = rows.size();
  const auto columns = rows.models.t().contiguous();  // [P, K]
  const int64_t numbers = columns.size(0);
  Mixture mixture;
  mixture.rho.assign(static_cast<size_t>(count), 0);
  mixture.values = torch::empty({numbers}, torch::kFloat64);
  auto* median = mixture.values.data_ptr<double>();
  std::vector<double> sorted(static_cast<size_t>(count));
  const int64_t half = count / 2;
  for (int64_t p = 0; p < numbers; ++p) {
    const double* values = columns.data_ptr<double>() + p * count;
    std::copy(values, values + count, sorted.begin());
    std::nth_element(sorted.begin(), sorted.begin() + half, sorted.end());
    const double high = sorted[static_cast<size_t>(half)];
    const double low =
        count % 2 == 1 ? high : *std::max_element(sorted.begin(), sorted.begin() + half);
    median[p] = low + (high - low) / 2;
    give(values, high, mixture.rho);
    give(values, low, mixture.rho);
  }
  for (double& share : mixture.rho) share /= static_cast<double>(numbers);
  return mixture;
}

std::unique_ptr<Aggregator> make_coordinate_median(const NoOptions&, const AggregateSite&) {
  return std::make_unique<CoordinateMedian>();
}

}  // namespace moekit::merge
