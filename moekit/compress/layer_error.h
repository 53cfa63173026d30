#pragma once

#include "moekit/compress/calibration.h"

namespace moekit::compress {

/// What a layer gives for the inputs of the passes, all of them, [N, O]; undefined where its module
/// cannot be run by itself (`RoutedModule::outputs_of`). No gradient.
torch::Tensor layer_outputs(const nn::RoutedLayer& layer, const LayerStatistics& statistics);

/// |after - before| / |before|, norms over all inputs together; NaN where `before` is all zeros.
/// @param before, after  [N, O] of the same size
double relative_error(const torch::Tensor& before, const torch::Tensor& after);

}  // namespace moekit::compress
