#pragma once

#include <cstddef>
#include <vector>

namespace moekit {

/// Summary of one figure over several seeds.
struct Summary {
  std::size_t count = 0;
  double mean = 0;
  double std_dev = 0;  ///< divisor n - 1; 0 for one value
  double median = 0;
  double min = 0;
  double max = 0;
  /// std_dev / sqrt(count); 0 for no value.
  double standard_error() const;
};

/// NaN members for no value at all, so that a missing figure cannot pass for a zero.
Summary summarize(std::vector<double> values);

}  // namespace moekit
