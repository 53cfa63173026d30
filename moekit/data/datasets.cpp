#include "moekit/data/datasets.h"

#include "moekit/data/sets/cifar10.h"
#include "moekit/data/sets/cifar100.h"
#include "moekit/data/sets/cluster_patch.h"
#include "moekit/data/sets/joined.h"
#include "moekit/data/sets/mnist.h"
#include "moekit/data/sets/rotated.h"
#include "moekit/data/sets/soft_routed_teacher.h"
#include "moekit/data/sets/synthetic_clusters.h"

namespace moekit::data {

const std::vector<DatasetRow>& DatasetKinds::rows() {
  static const std::vector<DatasetRow> kRows = {
      fashion_mnist_row(),
      mnist_row(),
      kmnist_row(),
      usps_row(),
      cifar10_row(),
      cifar100_row(),
      fashion_and_digits_row(),
      cifar10_rotate_row(),
      generated<&make_cluster_patch>(
          "cluster-patch",
          "generated samples of P patches with a label and a centre vector a cluster; 2 classes"),
      generated<&make_soft_routed_set>(
          "soft-routed-teacher",
          "generated: sign of a soft-routed teacher on Gaussian inputs; its pairs as clusters"),
      generated<&make_cluster_images>("synthetic-clusters",
                                      "12x12 generated images, 4 true clusters, 2 classes"),
  };
  return kRows;
}

const DatasetRow& dataset_row(std::string_view name) {
  return find_kind(DatasetKinds::rows(), name, DatasetKinds::kWhat);
}

std::shared_ptr<Dataset> load_dataset(std::string_view name, const DatasetSite& site) {
  return Choice<DatasetKinds>(name).make(site);
}

std::shared_ptr<ImageDataset> as_images(const std::shared_ptr<Dataset>& dataset) {
  auto images = std::dynamic_pointer_cast<ImageDataset>(dataset);
  MOEKIT_CHECK(images != nullptr, "data set ", dataset->name, " holds ", dataset->kind(),
               "; images are wanted");
  return images;
}

std::shared_ptr<ImageDataset> load_images(const Choice<DatasetKinds>& choice,
                                          const DatasetSite& site) {
  return as_images(choice.make(site));
}

std::shared_ptr<ImageDataset> load_images(std::string_view name, const DatasetSite& site) {
  return as_images(load_dataset(name, site));
}

}  // namespace moekit::data
