#pragma once

#include <cstdint>
#include <vector>

namespace moekit::merge {

/// Gives every row a column of its own such that the sum of the chosen costs is the least there is.
/// Exact, O(n^3) at worst: shortest augmenting paths over reduced costs, from a first assignment by
/// the least cost of every column. Of equal choices the lower index is looked at first.
/// @param cost  [n, n], row by row
/// @return the column of each row
/// @throws ArgumentError for a cost that is NaN or infinite, naming row and column
/// Source: Jonker & Volgenant 1987, A shortest augmenting path algorithm for dense and sparse
/// linear assignment problems, Computing 38.
std::vector<std::int64_t> assign(const float* cost, std::int64_t n);

}  // namespace moekit::merge
