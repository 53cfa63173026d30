#include "moekit/data/sets/cluster_patch.h"

#include <torch/types.h>

#include <cmath>

#include "moekit/core/error.h"
#include "moekit/core/memory.h"
#include "moekit/core/random.h"
#include "moekit/tensor/generator.h"

namespace moekit::data {
namespace {

void check_range(const std::string& key, const std::vector<double>& range) {
  MOEKIT_CHECK(range.size() == 2 && range[0] <= range[1] && range[0] >= 0, key,
               " must be [low, high] with 0 <= low <= high; got [", range.empty() ? 0.0 : range[0],
               range.size() > 1 ? concat(", ", range[1]) : "", "]");
}

/// Rows made orthonormal one after the other (Gram-Schmidt, twice for accuracy), in place.
void orthonormalize(torch::Tensor& rows) {
  for (int64_t i = 0; i < rows.size(0); ++i) {
    auto row = rows[i];
    for (int repeat = 0; repeat < 2 && i > 0; ++repeat) {
      const auto before = rows.slice(0, 0, i);
      row.sub_(before.t().matmul(before.matmul(row)));
    }
    row.div_(row.norm());
  }
}

/// The vectors as [2, K, d]: v, then c.
torch::Tensor draw_vectors(const ClusterPatchOptions& o, at::Generator& generator) {
  auto vectors = torch::empty({o.num_clusters, 2, o.dim}, torch::kFloat64).normal_(0, 1, generator);
  if (o.vectors == ClusterVectors::kOrthonormal) {
    auto all = vectors.view({2 * o.num_clusters, o.dim});
    orthonormalize(all);
  } else {
    for (int64_t k = 0; k < o.num_clusters; ++k) {
      auto pair = vectors[k];
      orthonormalize(pair);
    }
  }
  return vectors.transpose(0, 1).to(torch::kFloat32).contiguous();
}

ImageSet draw_samples(const ClusterPatchOptions& o, int64_t count, const torch::Tensor& vectors,
                      at::Generator& generator) {
  const auto below = [&](int64_t limit) {
    return torch::empty({count}, torch::kLong).random_(0, limit, generator);
  };
  const auto between = [&](const std::vector<double>& range) {
    return torch::empty({count, 1}).uniform_(range[0], range[1], generator);
  };
  const auto cluster = below(o.num_clusters);
  const auto other = (cluster + 1 + below(o.num_clusters - 1)).remainder(o.num_clusters);
  const auto label = below(2);
  const auto sign_of = [](const torch::Tensor& bit) {
    return (2 * bit - 1).to(torch::kFloat32).unsqueeze(1);
  };
  const auto signal = sign_of(label) * between(o.alpha) * vectors[0].index_select(0, cluster);
  const auto centre = between(o.beta) * vectors[1].index_select(0, cluster);
  const auto confusing = sign_of(below(2)) * between(o.gamma) * vectors[0].index_select(0, other);
  const auto noise = torch::empty({count, o.num_patches - 3, o.dim})
                         .normal_(0, o.noise / std::sqrt(static_cast<double>(o.dim)), generator);
  const auto patches = torch::cat({torch::stack({signal, centre, confusing}, 1), noise}, 1);
  const auto order =
      torch::empty({count, o.num_patches}).uniform_(0, 1, generator).argsort(int64_t{1});
  auto shuffled = patches.gather(1, order.unsqueeze(2).expand_as(patches)).mul_(o.input_scale);
  return {shuffled.unsqueeze(1), label, cluster};
}

}  // namespace

void ClusterPatchOptions::check(const std::string& where) const {
  MOEKIT_CHECK(num_clusters >= 2 && num_clusters <= dim / 2, where,
               ".num_clusters must be 2..dim/2 = 2..", dim / 2, "; got ", num_clusters);
  MOEKIT_CHECK(num_patches >= 3, where, ".num_patches must be at least 3; got ", num_patches);
  const std::string shortage = memory_shortage({2 * num_clusters, dim}, sizeof(double));
  MOEKIT_CHECK(shortage.empty(), where, ".num_clusters = ", num_clusters, ", dim = ", dim, ": ",
               shortage);
  // Signals and noise, joined, shuffled: three copies are there at a time.
  check_generated_size(where, num_train, num_test, {num_patches, dim}, 3 * sizeof(float));
  check_range(where + ".alpha", alpha);
  check_range(where + ".beta", beta);
  check_range(where + ".gamma", gamma);
  MOEKIT_CHECK(noise >= 0, where, ".noise must be at least 0; got ", noise);
  MOEKIT_CHECK(input_scale > 0, where, ".input_scale must be positive; got ", input_scale);
}

ImageDataset make_cluster_patch(const ClusterPatchOptions& options, uint64_t seed) {
  options.check("cluster-patch");
  auto generator = tensor::make_generator(derive_seed(seed, "cluster-patch"));
  const auto vectors = draw_vectors(options, generator);
  ImageDataset dataset;
  dataset.name = "cluster-patch";
  dataset.train = draw_samples(options, options.num_train, vectors, generator);
  dataset.test = draw_samples(options, options.num_test, vectors, generator);
  dataset.class_names = {"-1", "+1"};
  dataset.normalization = {{0.0}, {1.0}};
  dataset.source = "generated";
  dataset.directions = {{"label", vectors[0]}, {"centre", vectors[1]}};
  return dataset;
}

}  // namespace moekit::data
