#pragma once

#include <torch/types.h>

#include <map>
#include <string>
#include <vector>

#include "moekit/data/dataset.h"

namespace moekit::data {

/// Images as they are stored, with one label each: bytes, or numbers of generated data, whose
/// P patches of d numbers are one "image" [1, P, d]. The whole set is one tensor.
struct ImageSet {
  torch::Tensor images;  ///< [N, C, H, W] uint8 or float32
  torch::Tensor labels;  ///< [N] int64, 0..num_classes-1
  torch::Tensor
      clusters;  ///< [N] int64, the true cluster where the data set knows it, else undefined

  int64_t size() const { return labels.defined() ? labels.size(0) : 0; }
  /// Rows in the given order. @param index [M] int64
  ImageSet select(const torch::Tensor& index) const;
  /// Rows begin .. end-1.
  ImageSet slice(int64_t begin, int64_t end) const;
};

/// Per-channel mean and standard deviation of pixels in 0..1, or of numbers as they are.
struct Normalization {
  std::vector<double> mean;
  std::vector<double> std_dev;
};

/// (pixel / 255 - mean) / std as float32 [N, C, H, W]; float images are not divided by 255.
torch::Tensor normalize(const torch::Tensor& images, const Normalization& normalization);

/// A training and a test part of images in classes.
class ImageDataset : public Dataset {
 public:
  std::string_view kind() const override { return "images"; }
  /// Image size, normalization, true clusters where they are known, samples of each class.
  Json describe() const override;
  int64_t num_classes() const { return static_cast<int64_t>(class_names.size()); }

  ImageSet train;
  ImageSet test;
  std::vector<std::string> class_names;
  Normalization normalization;
  /// What generated data are made of, by name: unit vectors [K, d] an expert or router may find.
  std::map<std::string, torch::Tensor> directions;
};

/// SHA-256 over shapes, images and labels of both parts: what it was that a run was trained on.
std::string checksum(const ImageDataset& dataset);

/// Joins images and labels. @throws FormatError naming `where` when there are no images [N, C, H,
/// W], counts differ, or a label is outside 0..num_classes-1.
ImageSet make_image_set(torch::Tensor images, torch::Tensor labels, int64_t num_classes,
                        const std::string& where);

/// The sizes of a data set that is to be generated: at least one sample in each part, which fits
/// into the memory that is free.
/// @param where  stands before the names of options in messages
/// @param sample, bytes_each  sizes of a sample, and what each of its numbers takes while it is
/// made
/// @throws ArgumentError
void check_generated_size(const std::string& where, int64_t num_train, int64_t num_test,
                          const std::vector<int64_t>& sample, uint64_t bytes_each);

/// For data sets whose files are known: every class has a sample. @throws FormatError naming
/// `where` and the class
void check_classes(const ImageSet& set, const std::vector<std::string>& class_names,
                   const std::string& where);

}  // namespace moekit::data
