#pragma once

#include <limits>
#include <string>

namespace moekit {

/// The largest number that at_least() and above() let through: products of two counts stay within
/// 64 bits, products of two factors within a float.
inline constexpr double kMostOfAnything = 1e9;

/// Limits of two keys that every task has: any seed of 64 bits; more threads than a machine has.
inline constexpr double kAnySeed = 4611686018427387904.0;
inline constexpr double kMostThreads = 1024;  // as kernels::ThreadPool

/// What a field takes, and when: the last argument of field(). It holds for each number of a list.
/// bind_config() and check_values() keep to it, lists of keys show it.
struct FieldRule {
  double least = -std::numeric_limits<double>::infinity();
  double most = std::numeric_limits<double>::infinity();
  bool open_least = false;  ///< `least` itself is refused
  bool open_most = false;
  bool on_resume = false;  ///< may be another when a run goes on; see run/run.h

  constexpr FieldRule below(double limit) const {
    FieldRule rule = *this;
    rule.most = limit;
    rule.open_most = true;
    return rule;
  }
  constexpr FieldRule changeable() const {
    FieldRule rule = *this;
    rule.on_resume = true;
    return rule;
  }
  /// What such a number had to be, "at least 0"; empty where it is one that the field takes. NaN is
  /// none.
  std::string complaint(double value) const;
  /// Both bounds, in short: ">= 0, < 1"; empty where there are none.
  std::string text() const;
};
constexpr FieldRule at_least(double least, double most = kMostOfAnything) {
  return {least, most, false, false, false};
}
constexpr FieldRule above(double least, double most = kMostOfAnything) {
  return {least, most, true, false, false};
}
constexpr FieldRule changeable() { return FieldRule{}.changeable(); }

}  // namespace moekit
