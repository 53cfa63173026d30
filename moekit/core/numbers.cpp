#include "moekit/core/numbers.h"

#include <cmath>

#include "moekit/core/error.h"

namespace moekit {
namespace {

// A decimal as a double is off by a relative 2^-53, each product by as much again: four digits
// more.
constexpr double kRounding = 1e-12;
constexpr double kTwoTo63 = 9223372036854775808.0;

}  // namespace

std::int64_t to_integer(double value, std::string_view what, std::int64_t least,
                        std::int64_t most) {
  // 2^63 - 1 is no double: what is below 2^63 fits.
  const bool is_integer = value == std::trunc(value) && value >= -kTwoTo63 && value < kTwoTo63;
  const std::int64_t integer = is_integer ? static_cast<std::int64_t>(value) : 0;
  MOEKIT_CHECK(is_integer && integer >= least && integer <= most, what,
               " must be a whole number in ", least, "..", most, "; got ", value);
  return integer;
}

std::int64_t round_to_integer(double value, std::string_view what, std::int64_t least,
                              std::int64_t most) {
  return to_integer(std::round(value), what, least, most);
}

double ceil_of_product(double value) { return std::ceil(value - std::abs(value) * kRounding); }

}  // namespace moekit
