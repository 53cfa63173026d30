#include "moekit/data/sets/cluster_patch.h"

#include <gtest/gtest.h>

#include "moekit/core/config.h"

namespace moekit::data {
namespace {

ClusterPatchOptions small_clusters() {
  ClusterPatchOptions options;
  options.num_train = 3000;
  options.num_test = 10;
  return options;
}

torch::Tensor gram(const ImageDataset& set) {
  const auto all = torch::cat({set.directions.at("label"), set.directions.at("centre")});
  return all.matmul(all.t());
}

TEST(ClusterPatch, AllVectorsAreOrthonormal) {
  const auto set = make_cluster_patch(small_clusters(), 3);
  EXPECT_TRUE(torch::allclose(gram(set), torch::eye(8), 0, 1e-6));
  auto wrong = small_clusters();
  wrong.vectors = ClusterVectors::kWithinCluster;
  const auto control = gram(make_cluster_patch(wrong, 3));
  EXPECT_NEAR(control[0][4].item<double>(), 0, 1e-6);   // v_0 and c_0
  EXPECT_GT(control[0][1].abs().item<double>(), 1e-3);  // v_0 and v_1
  EXPECT_NEAR(control[0][0].item<double>(), 1, 1e-6);
}

TEST(ClusterPatch, EverySampleHoldsItsSignalCentreAndFeatureNoise) {
  auto options = small_clusters();
  options.noise = 0;  // the fourth patch is zero
  const auto set = make_cluster_patch(options, 5);
  const auto& v = set.directions.at("label");
  const auto& c = set.directions.at("centre");
  const auto sum = set.train.images.squeeze(1).sum(1) / options.input_scale;  // [N, d]
  const auto along_v = sum.matmul(v.t());
  const auto along_c = sum.matmul(c.t());
  int64_t positive = 0;
  int64_t negative = 0;
  for (int64_t n = 0; n < 200; ++n) {
    const int64_t k = set.train.clusters[n].item<int64_t>();
    const double sign = set.train.labels[n].item<int64_t>() == 1 ? 1 : -1;
    const double alpha = sign * along_v[n][k].item<double>();
    EXPECT_TRUE(alpha > 0.5 - 1e-4 && alpha < 2 + 1e-4) << alpha;
    const double beta = along_c[n][k].item<double>();
    EXPECT_TRUE(beta > 1 - 1e-4 && beta < 2 + 1e-4) << beta;
    // Exactly one other cluster's label vector is in it, of either sign.
    const auto others = along_v[n].abs().gt(0.4).sum().item<int64_t>();
    EXPECT_EQ(others, 2);
    const double gamma = along_v[n].sum().item<double>() - along_v[n][k].item<double>();
    EXPECT_TRUE(std::abs(gamma) > 0.5 - 1e-4 && std::abs(gamma) < 3 + 1e-4) << gamma;
    (gamma > 0 ? positive : negative) += 1;
    EXPECT_EQ(along_c[n].abs().gt(1e-4).sum().item<int64_t>(), 1);
  }
  EXPECT_GT(positive, 70);  // of 200, five standard deviations below half
  EXPECT_GT(negative, 70);
  // Each of the four places holds the centre about as often, and labels tell nothing of clusters.
  const auto place = set.train.images.squeeze(1).matmul(c.t()).abs().amax(2).argmax(1);
  EXPECT_TRUE(torch::bincount(place, {}, 4).gt(650).all().item<bool>());
  const auto in_first =
      set.train.labels.index_select(0, set.train.clusters.eq(0).nonzero().squeeze(1));
  EXPECT_NEAR(in_first.to(torch::kFloat32).mean().item<double>(), 0.5, 0.06);
}

TEST(ClusterPatch, NoisePatchesHaveTheStatedSpread) {
  auto options = small_clusters();
  options.num_patches = 7;
  options.noise = 2;
  options.alpha = options.beta = options.gamma = {0, 0};
  const auto set = make_cluster_patch(options, 1);
  // Four of seven patches are noise of variance (10 * 2)^2 / 50 a coordinate, the others zero.
  EXPECT_NEAR(set.train.images.square().mean().item<double>(), 8.0 * 4 / 7, 0.1);
}

TEST(ClusterPatch, IsTheSameForOneSeedAndAnotherForAnother) {
  const auto a = make_cluster_patch(small_clusters(), 1);
  EXPECT_TRUE(torch::equal(a.train.images, make_cluster_patch(small_clusters(), 1).train.images));
  EXPECT_FALSE(torch::equal(a.train.images, make_cluster_patch(small_clusters(), 2).train.images));
}

TEST(ClusterPatch, RefusesWithTheValues) {
  const auto refusal = [](const std::string& options) -> std::string {
    try {
      ClusterPatchOptions bound;
      bind_config(parse_toml(options, "r.toml"), bound);
      bound.check("data.options");
    } catch (const ArgumentError& error) {
      return error.what();
    }
    return "";
  };
  EXPECT_EQ(refusal("num_clusters = 26"),
            "data.options.num_clusters must be 2..dim/2 = 2..25; got 26");
  EXPECT_NE(refusal("num_clusters = 1").find("got 1"), std::string::npos);
  EXPECT_NE(refusal("num_clusters = 9223372036854775807").find("got 9"), std::string::npos);
  EXPECT_NE(refusal("num_patches = 2").find("got 2"), std::string::npos);
  EXPECT_NE(refusal("gamma = [2.0, 1.0]").find("data.options.gamma"), std::string::npos);
  EXPECT_NE(refusal("gamma = [1.0]").find("gamma"), std::string::npos);
  EXPECT_NE(refusal("noise = -1.0").find("got -1"), std::string::npos);
  EXPECT_NE(refusal("vectors = \"some\"").find("within_cluster"), std::string::npos);
  ClusterPatchOptions wrong;
  wrong.num_patches = 2;
  EXPECT_THROW(make_cluster_patch(wrong, 1), ArgumentError);
}

}  // namespace
}  // namespace moekit::data
