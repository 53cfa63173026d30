#pragma once

#include <vector>

#include "moekit/data/datasets.h"

namespace moekit::data {

/// Some classes of one data set and some of another as one problem: the classes of `first` come
/// first, each part keeps its order, and the parts alternate image by image until one is used up,
/// so that any first n images hold as many of either. The part is kept as the true cluster.
/// Normalised by mean and deviation 0.5.
/// @throws ArgumentError when the images differ in shape or a class does not exist.
ImageDataset join_datasets(const ImageDataset& first, const std::vector<int64_t>& first_classes,
                           const ImageDataset& second, const std::vector<int64_t>& second_classes);

/// "fashion-mnist+mnist": T-shirt, trouser, pullover, dress, coat, sandal, then the digits 4 to 9.
DatasetRow fashion_and_digits_row();

}  // namespace moekit::data
