#include "moekit/study/estimate.h"

#include <algorithm>
#include <boost/math/distributions/binomial.hpp>
#include <boost/math/distributions/students_t.hpp>
#include <cmath>
#include <limits>

#include "moekit/core/error.h"
#include "moekit/core/random.h"
#include "moekit/core/statistics.h"

namespace moekit::study {
namespace {

constexpr double kTail = 0.025;  // beyond each end of a 95 % interval
constexpr std::size_t kResamples = 10'000;
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

/// Medians of samples drawn from the values with replacement.
Interval median_interval(const std::vector<double>& values) {
  if (values.size() < 2) return {-kInfinity, kInfinity};
  // Always the same draws: one set of values has one interval.
  std::mt19937_64 generator(derive_seed(1, "bootstrap", values.size()));
  std::vector<double> medians(kResamples);
  std::vector<double> sample(values.size());
  for (double& median : medians) {
    for (double& value : sample) value = values[uniform_below(generator, values.size())];
    median = summarize(sample).median;
  }
  std::sort(medians.begin(), medians.end());
  const auto cut = static_cast<std::size_t>(kTail * kResamples);
  return {medians[cut], medians[kResamples - 1 - cut]};
}

Interval proportion_interval(std::size_t ones, std::size_t count) {
  using Binomial = boost::math::binomial;
  const auto n = static_cast<double>(count);
  const auto k = static_cast<double>(ones);
  return {Binomial::find_lower_bound_on_p(n, k, kTail),
          Binomial::find_upper_bound_on_p(n, k, kTail)};
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
  return {a.count,
          value,
          {value - std::hypot(a.value - a.interval.low, b.interval.high - b.value),
           value + std::hypot(a.interval.high - a.value, b.value - b.interval.low)}};
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
