#pragma once

#include <vector>

namespace moekit::merge {

/// The nearest point of the simplex {x >= 0, sum x = 1}, exact to rounding, in O(K log K).
/// Source: Duchi, Shalev-Shwartz, Singer, Chandra 2008, Efficient Projections onto the l1-Ball for
/// Learning in High Dimensions, figure 1.
/// @param point  [K >= 1], finite @throws ArgumentError otherwise
std::vector<double> project_to_simplex(const std::vector<double>& point);

}  // namespace moekit::merge
