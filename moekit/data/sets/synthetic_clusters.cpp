#include "moekit/data/sets/synthetic_clusters.h"

#include <torch/types.h>

#include <algorithm>

#include "moekit/core/error.h"
#include "moekit/core/random.h"
#include "moekit/tensor/generator.h"

namespace moekit::data {
namespace {

constexpr int64_t kSide = 12;
constexpr int64_t kHalf = kSide / 2;

ImageSet draw(const ClusterImagesOptions& options, int64_t count,
              const std::vector<std::vector<int64_t>>& column_of, std::mt19937_64& generator,
              at::Generator& noise) {
  auto images = torch::zeros({count, 1, kSide, kSide});
  auto labels = torch::empty({count}, torch::kLong);
  auto clusters = torch::empty({count}, torch::kLong);
  auto pixel = images.accessor<float, 4>();
  for (int64_t n = 0; n < count; ++n) {
    const auto cluster =
        static_cast<int64_t>(uniform_below(generator, static_cast<uint64_t>(options.num_clusters)));
    const auto label =
        static_cast<int64_t>(uniform_below(generator, static_cast<uint64_t>(options.num_classes)));
    labels[n] = label;
    clusters[n] = cluster;
    // Up to 8 clusters on 6 rows: the row, and for the upper two which half of it is bright.
    const int64_t row = cluster % kHalf;
    for (int64_t x = cluster / kHalf * kHalf; x < kSide; ++x) pixel[n][0][row][x] = 0.7F;
    const int64_t column = column_of[static_cast<size_t>(cluster)][static_cast<size_t>(label)];
    for (int64_t y = kHalf; y < kSide; ++y) pixel[n][0][y][column] = 0.7F;
  }
  images += torch::empty_like(images).normal_(0, options.noise, noise);
  return {images.clamp_(0, 1).mul_(255).round_().to(torch::kUInt8), labels, clusters};
}

}  // namespace

void ClusterImagesOptions::check(const std::string& where) const {
  MOEKIT_CHECK(num_clusters >= 1 && num_clusters <= 8, where, ".num_clusters must be 1..8; got ",
               num_clusters);
  MOEKIT_CHECK(num_classes >= 2 && num_classes <= 8, where, ".num_classes must be 2..8; got ",
               num_classes);
  check_generated_size(where, num_train, num_test, {kSide, kSide}, 3 * sizeof(float));
  MOEKIT_CHECK(noise >= 0, where, ".noise must be at least 0; got ", noise);
}

ImageDataset make_cluster_images(const ClusterImagesOptions& options, uint64_t seed) {
  options.check("synthetic-clusters");
  std::mt19937_64 generator(derive_seed(seed, "cluster-images"));
  auto noise = tensor::make_generator(derive_seed(seed, "pixel-noise"));
  // Cluster c shows class y in column (y + c) mod num_classes.
  std::vector<std::vector<int64_t>> column_of;
  for (int64_t c = 0; c < options.num_clusters; ++c) {
    std::vector<int64_t> columns;
    for (int64_t y = 0; y < options.num_classes; ++y) {
      columns.push_back(1 + (y + c) % options.num_classes);
    }
    column_of.push_back(columns);
  }
  ImageDataset dataset;
  dataset.name = "synthetic-clusters";
  dataset.train = draw(options, options.num_train, column_of, generator, noise);
  dataset.test = draw(options, options.num_test, column_of, generator, noise);
  for (int64_t y = 0; y < options.num_classes; ++y) {
    dataset.class_names.push_back("class " + std::to_string(y));
  }
  dataset.normalization = {{0.15}, {0.25}};
  dataset.source = "generated";
  return dataset;
}

}  // namespace moekit::data
