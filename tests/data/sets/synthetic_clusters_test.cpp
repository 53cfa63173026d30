#include "moekit/data/sets/synthetic_clusters.h"

#include <gtest/gtest.h>

#include "moekit/core/error.h"

namespace moekit::data {
namespace {

TEST(ClusterImages, AreTheSameForOneSeedAndKeepTheTrueClusters) {
  const auto a = make_cluster_images({});
  const auto b = make_cluster_images({});
  EXPECT_TRUE(torch::equal(a.train.images, b.train.images));
  EXPECT_EQ(a.train.clusters.max().item<int64_t>(), 3);
  ClusterImagesOptions other;
  EXPECT_FALSE(torch::equal(a.train.images, make_cluster_images(other, 2).train.images));
  other.num_clusters = 9;
  EXPECT_THROW(make_cluster_images(other), ArgumentError);
}

TEST(ClusterImages, ShowTheSameColumnForAnotherClassInAnotherCluster) {
  ClusterImagesOptions options;
  options.noise = 0;
  const auto set = make_cluster_images(options).train;
  for (int64_t n = 0; n < 200; ++n) {
    const auto cluster = set.clusters[n].item<int64_t>();
    const auto column = 1 + (set.labels[n].item<int64_t>() + cluster) % 2;
    EXPECT_GT(set.images[n][0][11][column].item<int>(), 100);
    EXPECT_EQ(set.images[n][0][11][column == 1 ? 2 : 1].item<int>(), 0);
  }
}

}  // namespace
}  // namespace moekit::data
