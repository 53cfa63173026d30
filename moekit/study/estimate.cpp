#include "moekit/study/estimate.h"

#include <algorithm>
#include <boost/math/distributions/binomial.hpp>
#include <boost/math/distributions/students_t.hpp>
#include <cmath>
#include <limits>

#include "moekit/core/error.h"
#include "moekit/core/statistics.h"

namespace moekit::study {
namespace {

constexpr double kTail = 0.025;  // beyond each end of a 95 % interval
constexpr double kInfinity = std::numeric_limits<double>::infinity();

void check_values(const std::vector<double>& values, Statistic statistic) {
  for (const double value : values) {
    MOEKIT_CHECK(std::isfinite(value), "a figure over seeds must be finite; got ", value);
    MOEKIT_CHECK(statistic != Statistic::kProportion || value == 0 || value == 1,
                 "a proportion counts seeds that are 1 and not 0; got ", value);
  }
}

Interval mean_interval(const Summary& summary) {
  if (summary.count < 2) return {-kInfinity, kInfinity};
  const boost::math::students_t t(static_cast<double>(summary.count - 1));
  const double half =
      boost::math::quantile(boost::math::complement(t, kTail)) * summary.standard_error();
  return {summary.mean - half, summary.mean + half};
}

/// Between two of the sorted values, as near together as holds the median in 95 of 100 samples
/// whatever they are drawn from: it lies above the k-th one of n with the chance that fewer than k
/// of n coins show heads. Below six values there are no such two.
Interval median_interval(std::vector<double> values) {
  using Binomial = boost::math::binomial;
  std::sort(values.begin(), values.end());
  const Binomial coins(static_cast<double>(values.size()), 0.5);
  std::size_t outside = 0;  // values left out at each end
  while (2 * (outside + 1) < values.size() &&
         boost::math::cdf(coins, static_cast<double>(outside)) <= kTail) {
    ++outside;
  }
  if (outside == 0) return {-kInfinity, kInfinity};
  return {values[outside - 1], values[values.size() - outside]};
}

Interval proportion_interval(std::size_t ones, std::size_t count) {
  using Binomial = boost::math::binomial;
  const auto n = static_cast<double>(count);
  const auto k = static_cast<double>(ones);
  return {Binomial::find_lower_bound_on_p(n, k, kTail),
          Binomial::find_upper_bound_on_p(n, k, kTail)};
}

/// How much seeds that are 1 in one row are so in the other: the correlation phi of two columns of
/// 0 and 1, its positive values corrected for continuity.
double likeness(const std::vector<double>& left, const std::vector<double>& right) {
  double both = 0;
  double only_left = 0;
  double only_right = 0;
  const auto n = static_cast<double>(left.size());
  for (std::size_t i = 0; i < left.size(); ++i) {
    both += left[i] * right[i];
    only_left += left[i] * (1 - right[i]);
    only_right += (1 - left[i]) * right[i];
  }
  const double neither = n - both - only_left - only_right;
  const double margins =
      (both + only_left) * (only_right + neither) * (both + only_right) * (only_left + neither);
  if (!(margins > 0)) return 0;
  double product = both * neither - only_left * only_right;
  if (product > 0) product = std::max(product - n / 2, 0.0);
  return product / std::sqrt(margins);
}

}  // namespace

Estimate estimate(const std::vector<double>& values, Statistic statistic) {
  check_values(values, statistic);
  const Summary summary = summarize(values);
  if (values.empty()) return {0, summary.mean, {-kInfinity, kInfinity}};
  switch (statistic) {
    case Statistic::kMedian:
      return {values.size(), summary.median, median_interval(values)};
    case Statistic::kProportion: {
      const auto ones = static_cast<std::size_t>(std::count(values.begin(), values.end(), 1.0));
      return {values.size(), summary.mean, proportion_interval(ones, values.size())};
    }
    case Statistic::kMean:
      break;
  }
  return {values.size(), summary.mean, mean_interval(summary)};
}

Estimate estimate_effect(const std::vector<double>& left, const std::vector<double>& right,
                         double factor, double offset, Statistic statistic) {
  MOEKIT_CHECK(right.empty() || right.size() == left.size(),
               "an effect wants the same seeds of "
               "both rows; got ",
               left.size(), " and ", right.size());
  if (statistic != Statistic::kProportion) {
    std::vector<double> differences = left;
    for (std::size_t i = 0; i < left.size(); ++i) {
      differences[i] -= (right.empty() ? 0 : factor * right[i]) + offset;
    }
    return estimate(differences, statistic);
  }
  const Estimate a = estimate(left, statistic);
  if (right.empty()) {
    return {a.count, a.value - offset, {a.interval.low - offset, a.interval.high - offset}};
  }
  Estimate b = estimate(right, statistic);
  if (b.count == 0) return b;
  b.value *= factor;
  b.interval = {std::min(factor * b.interval.low, factor * b.interval.high),
                std::max(factor * b.interval.low, factor * b.interval.high)};
  const double value = a.value - b.value - offset;
  const double like = factor == 1 ? likeness(left, right) : 0;
  const auto reach = [&](double of_a, double of_b) {
    return std::sqrt(std::max(0.0, of_a * of_a - 2 * like * of_a * of_b + of_b * of_b));
  };
  return {a.count,
          value,
          {value - reach(a.value - a.interval.low, b.interval.high - b.value),
           value + reach(a.interval.high - a.value, b.value - b.interval.low)}};
}

std::size_t seeds_to_decide(const Estimate& effect) {
  // Two rows of means that are equal by chance would ask for any number.
  constexpr double kMost = 1e6;
  const double gap = std::abs(effect.value);
  const double reach =
      effect.value > 0 ? effect.value - effect.interval.low : effect.interval.high - effect.value;
  if (!(gap > 0) || !std::isfinite(reach)) return 0;
  const double seeds = std::ceil(static_cast<double>(effect.count) * (reach / gap) * (reach / gap));
  if (!(seeds <= kMost)) return 0;
  return std::max(static_cast<std::size_t>(seeds), effect.count);
}

}  // namespace moekit::study
