#pragma once

#include <cstdint>

#include "moekit/core/field_rule.h"
#include "moekit/data/image_dataset.h"

namespace moekit::data {

/// Options of `make_cluster_images`.
struct ClusterImagesOptions {
  int64_t num_train = 2000;
  int64_t num_test = 1000;
  int64_t num_clusters = 4;  ///< 1..8
  int64_t num_classes = 2;   ///< 2..8
  double noise = 0.15;       ///< standard deviation of the pixel noise, in units of 255

  /// @param where  stands before the names of options in messages. @throws ArgumentError
  void check(const std::string& where) const;
  template <typename Field>
  void visit(Field&& field) {
    field("num_train", num_train, "", at_least(1));
    field("num_test", num_test, "", at_least(1));
    field("num_clusters", num_clusters, "1..8");
    field("num_classes", num_classes, "2..8");
    field("noise", noise, "standard deviation of the pixel noise, in units of 255", at_least(0));
  }
};

/// Small images (12 x 12, one channel) of a problem in which specialisation pays: the cluster is
/// drawn as a bright row of the upper half, the class as a bright column of the lower half, and
/// every cluster permutes the classes in its own way, so that the same column means another class
/// in another cluster. The true clusters are kept.
ImageDataset make_cluster_images(const ClusterImagesOptions& options, uint64_t seed = 1);

}  // namespace moekit::data
