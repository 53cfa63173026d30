#pragma once

#include <array>
#include <cstddef>
#include <string_view>
#include <utility>
#include <vector>

#include "moekit/core/enum_names.h"

/// What the seeds that were run say of all seeds.
namespace moekit::study {

/// How a figure's seeds are told in one value, and how sure that value is.
enum class Statistic {
  kMean,        ///< interval of Student's t
  kMedian,      ///< between two of the sorted values, from six values on; never below 95 %
  kProportion,  ///< of seeds that are 1 and not 0; Clopper and Pearson's exact interval
};

/// A 95 % interval.
struct Interval {
  double low = 0;
  double high = 0;
};

/// A value of all seeds, as a sample of them tells it.
struct Estimate {
  std::size_t count = 0;
  double value = 0;   ///< NaN for no seed
  Interval interval;  ///< infinite on both sides where one seed cannot tell (a proportion's can)
};

/// @param values  one a seed, finite
/// @throws ArgumentError naming the value: one that is not finite; in a proportion one that is
///         neither 0 nor 1
Estimate estimate(const std::vector<double>& values, Statistic statistic);

/// Of left - factor * right - offset, seed by seed: the estimate of the differences. Proportions of
/// two rows have no interval of differences; there it is Newcombe's hybrid of both rows' intervals
/// (1998, method 10, with exact in place of score intervals), which does not use that seeds are
/// paired and is the wider for it.
/// @param right  as many as `left`, of the same seeds; empty for none
/// @throws ArgumentError as `estimate`, and for other lengths
Estimate estimate_effect(const std::vector<double>& left, const std::vector<double>& right,
                         double factor, double offset, Statistic statistic);

/// How many seeds in all would put the nearer end of the interval on the side of zero where the
/// value is, were value and spread to stay: the interval shrinks with the root of their number.
/// @return 0 where none would (a value of zero, or one seed, of which no spread is known)
std::size_t seeds_to_decide(const Estimate& effect);

}  // namespace moekit::study

template <>
struct moekit::EnumNames<moekit::study::Statistic> {
  static constexpr std::array<std::pair<study::Statistic, std::string_view>, 3> kTable{{
      {study::Statistic::kMean, "mean"},
      {study::Statistic::kMedian, "median"},
      {study::Statistic::kProportion, "proportion"},
  }};
};
