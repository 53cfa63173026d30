#pragma once

#include <string>
#include <vector>

#include "moekit/nn/routed_layer.h"

/// Single experts of a layer that do not learn.
namespace moekit::nn {

/// The experts stop learning: their gradients are dropped, and the optimizers of train/ move
/// neither their parameters nor what they remember of them, not by a bit. (libtorch's own
/// optimizers step whole tensors and know of no rows: see train/optimizers/by_expert.h.) Experts
/// that are modules of their own need no gradient any more. The layer remembers it through
/// take_experts() and clone(); checkpoints do not.
/// @throws ArgumentError for an expert out of range and where why_not_frozen() says why not.
///         Nothing is changed then.
void freeze_experts(const RoutedLayer& layer, const std::vector<int64_t>& experts);
/// They learn again, and go on where they stood. @throws ArgumentError as freeze_experts()
void unfreeze_experts(const RoutedLayer& layer, const std::vector<int64_t>& experts);

/// Why single experts of a bank cannot be frozen, so that one can freeze() the whole bank alone:
/// running statistics, which move in training, parameters that experts share, and what
/// why_not_single() says. Empty where they can.
std::string why_not_frozen(const ExpertsImpl& experts);

/// Parameters of a bank that have one row an expert; none where experts are modules of their own.
std::vector<torch::Tensor> stacked_parameters(const ExpertsImpl& experts);
/// Zeroes what a backward pass gave to frozen experts, so that it counts in no norm.
void clear_frozen_gradients(const ExpertsImpl& experts);

}  // namespace moekit::nn
