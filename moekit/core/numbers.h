#pragma once

#include <cstdint>
#include <limits>
#include <string_view>

/// From double to integer: the one place where that is done, because a cast of NaN, of infinity or
/// of a value outside the integer's range is undefined.
namespace moekit {

/// The whole number `value`, which must be one, in least..most.
/// @param what  stands before the message, "train.time / train.step"
/// @throws ArgumentError naming the value: NaN, infinite, fractional or out of range.
std::int64_t to_integer(double value, std::string_view what,
                        std::int64_t least = std::numeric_limits<std::int64_t>::min(),
                        std::int64_t most = std::numeric_limits<std::int64_t>::max());

/// `to_integer` of the nearest whole number, halves away from zero.
std::int64_t round_to_integer(double value, std::string_view what,
                              std::int64_t least = std::numeric_limits<std::int64_t>::min(),
                              std::int64_t most = std::numeric_limits<std::int64_t>::max());

/// The smallest whole number that is not below `value`, where a value that is above a whole number
/// by no more than rounding (a relative 1e-12) counts as that number: 1.1 * 50 gives 55, though the
/// product of doubles is 55.00000000000001.
double ceil_of_product(double value);

}  // namespace moekit
