#pragma once

#include "moekit/nn/experts.h"

namespace moekit::merge {

/// The expert of the same rank whose map is nearest to the weighted mean of the experts' maps, for
/// experts that are products of two matrices, down up x, as adapters of low rank are: the mean of
/// the matrices themselves is another map. Singular values are shared evenly between the two;
/// biases become the mean map's, all of it behind the second matrix. Computed in double from the
/// factors, without forming a product. Experts that are the same give themselves, bit for bit.
/// @param pair  of the bank, `ExpertsImpl::matrix_pair`
/// @param experts  of it, `expert_tensors`; not changed @param weights  see shares_of()
/// @throws ArgumentError for names or sizes that do not fit, NumericError for NaN or infinity
/// Source: Eckart & Young 1936 (nearest of a rank, by the singular value decomposition).
nn::ExpertTensors mean_product(const nn::MatrixPair& pair,
                               const std::vector<nn::ExpertTensors>& experts,
                               const std::vector<double>& weights);

}  // namespace moekit::merge
