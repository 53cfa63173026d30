#pragma once

#include <vector>

#include "moekit/data/dataset.h"

namespace moekit::data {

/// Some classes of one data set and some of another as one problem: the classes of `first` come
/// first, each part keeps its order, and the parts alternate image by image until one is used up,
/// so that any first n images hold as many of either. The part is kept as the true cluster.
/// Normalised by mean and deviation 0.5.
/// @throws ArgumentError when the images differ in shape or a class does not exist.
Dataset join_datasets(const Dataset& first, const std::vector<int64_t>& first_classes,
                      const Dataset& second, const std::vector<int64_t>& second_classes);

}  // namespace moekit::data
