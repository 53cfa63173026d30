#pragma once

#include <torch/types.h>

namespace moekit::nn {

/// Deals tokens out so that every expert gets T / E of them and the sum of their scores is large:
/// an auction in which experts bid for the tokens they like best. The sum is below the optimum by
/// at most T times a fiftieth of the scores' range; where it takes more than 100 rounds, by
/// more. Source: Lewis et al. 2021, arXiv:2103.16716, section 3.1, after Bertsekas 1992, with the
/// rounds of the released code.
/// @param scores [T, E], T a multiple of E; those that are not finite count as the least that is
/// @return [T] int64, the expert of each token; no gradient
/// @throws ArgumentError
torch::Tensor balanced_assignment(const torch::Tensor& scores);

}  // namespace moekit::nn
