#pragma once

#include <filesystem>

#include "moekit/data/datasets.h"

/// MNIST and its relatives: grey images and labels in IDX files (`data/idx.h`).
namespace moekit::data {

/// 28x28 digits, normalised by the training images' mean and deviation.
/// Source: LeCun, Cortes, Burges 1998, the MNIST database.
/// @throws IoError, FormatError naming the file: not there, broken, not of the images and labels
/// that
///         the data set is known to have, or naming the part without an image of some class; here
///         and below
ImageDataset read_mnist(const std::filesystem::path& folder);

/// 28x28 clothes in files of the same names. Source: Xiao et al. 2017, arXiv:1708.07747.
ImageDataset read_fashion_mnist(const std::filesystem::path& folder);

/// 28x28 hiragana. Where the training part is missing, the first four fifths of the test part
/// train. Source: Clanuwat et al. 2018, arXiv:1812.01718.
ImageDataset read_kmnist(const std::filesystem::path& folder);

/// 16x16 digits; the test files are called test-..., not t10k-.... Source: Hull 1994.
ImageDataset read_usps(const std::filesystem::path& folder);

DatasetRow mnist_row();
DatasetRow fashion_mnist_row();
DatasetRow kmnist_row();
DatasetRow usps_row();

}  // namespace moekit::data
