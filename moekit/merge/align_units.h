#pragma once

#include "moekit/nn/experts.h"

namespace moekit::merge {

/// Copies of an expert's tensors with the units of its hidden layers exchanged such that they lie
/// where the like ones of `reference` do: the same values, nearer to the reference's parameters.
/// Layer after layer the units are matched by the sum over their tensors of the products of their
/// weights, the other layers standing as they are, until none changes (a local best where there are
/// several layers, the best of all where there is one). Deterministic.
/// @param layers  of the bank, `ExpertsImpl::hidden_units`
/// @param reference, other  tensors of two experts of it, `expert_tensors`; not changed
/// @throws ArgumentError for names or sizes that do not fit, weights that are NaN or infinite
/// Source: Ainsworth, Hayase, Srinivasa 2022, Git Re-Basin, arXiv:2209.04836, section 3.2, weight
/// matching.
nn::ExpertTensors align_units(const std::vector<nn::HiddenUnits>& layers,
                              const nn::ExpertTensors& reference, const nn::ExpertTensors& other);

}  // namespace moekit::merge
