#pragma once

#include "moekit/compress/calibration.h"
#include "moekit/compress/options.h"

namespace moekit::compress {

/// How alike the experts of a layer are, the more the larger: [E, E] float64, symmetric.
///   weights     cosine of their weights, all tensors strung together; with `align`, after the
///               hidden units of one are exchanged such that they lie as those of the other
///   output_cka  metrics::linear_cka of their outputs on the calibration inputs, all experts on all
///               of them, unbiased; NaN beside an expert whose outputs do not vary
///   router      cosine of the router's logits for them over the calibration inputs; source: Li et
///               al. 2023, Merge, then Compress, arXiv:2310.01334, section 3.1
/// @throws ArgumentError for experts that differ in kind or cannot be aligned
torch::Tensor expert_similarity(Similarity method, const nn::RoutedLayer& layer,
                                const LayerStatistics& statistics, bool align);

}  // namespace moekit::compress
