#pragma once

#include <cstdint>
#include <random>
#include <string_view>
#include <vector>

namespace moekit {

/// A seed for the named stream of random numbers, so that for example the order of the data does
/// not change when one more weight is drawn. Pure function of its arguments (splitmix64 over
/// FNV-1a of the name).
std::uint64_t derive_seed(std::uint64_t seed, std::string_view stream, std::uint64_t index = 0);

/// A permutation of 0..n-1 (Fisher-Yates), the same for one seed on every platform.
std::vector<std::int64_t> random_permutation(std::int64_t n, std::uint64_t seed);

/// Uniform in 0..bound-1 without bias. @throws ArgumentError unless bound > 0.
std::uint64_t uniform_below(std::mt19937_64& generator, std::uint64_t bound);

/// Uniform in [0, 1), a multiple of 2^-53: the same on every platform, which the standard library's
/// distributions do not promise.
double uniform_unit(std::mt19937_64& generator);

}  // namespace moekit
