#include "moekit/data/cluster_patch.h"

#include <gtest/gtest.h>

#include "moekit/core/error.h"
#include "moekit/data/registry.h"
#include "moekit/data/rotated.h"
#include "moekit/data/soft_routed_teacher.h"

namespace moekit::data {
namespace {

ClusterPatchOptions small_clusters() {
  ClusterPatchOptions options;
  options.num_train = 3000;
  options.num_test = 10;
  return options;
}

torch::Tensor gram(const Dataset& set) {
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
    EXPECT_EQ(along_c[n].abs().gt(1e-4).sum().item<int64_t>(), 1);
  }
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
  const auto refusal = [](const char* key, const Json& value) -> std::string {
    ConfigTree options;
    options.values[key] = value;
    options.origins[""] = "data.options";
    try {
      load_dataset("cluster-patch", "", options, 1);
    } catch (const ArgumentError& error) {
      return error.what();
    }
    return "";
  };
  EXPECT_NE(refusal("num_clusters", 26).find("2..25; got 26"), std::string::npos);
  EXPECT_NE(refusal("num_clusters", 1).find("got 1"), std::string::npos);
  EXPECT_NE(refusal("num_patches", 2).find("got 2"), std::string::npos);
  EXPECT_NE(refusal("gamma", Json::array({2.0, 1.0})).find("gamma"), std::string::npos);
  EXPECT_NE(refusal("gamma", Json::array({1.0})).find("gamma"), std::string::npos);
  EXPECT_NE(refusal("noise", -1.0).find("got -1"), std::string::npos);
  EXPECT_NE(refusal("nope", 1).find("nope"), std::string::npos);
  EXPECT_NE(refusal("vectors", "some").find("within_cluster"), std::string::npos);
  ConfigTree any;
  any.values["x"] = 1;
  EXPECT_THROW(load_dataset("mnist", "", any), ArgumentError);
}

TEST(SoftRoutedSet, LabelsAreTheTeachersSign) {
  SoftRoutedSetOptions options;
  options.num_train = 2000;
  options.num_test = 10;
  const auto set = make_soft_routed_set(options, 4);
  const SoftRouted teacher{set.directions.at("router"), set.directions.at("expert"), options.gate};
  const auto parts = teacher.parts(set.train.images.flatten(1));
  EXPECT_TRUE(torch::equal(set.train.labels, parts.sum(1).gt(0).to(torch::kLong)));
  EXPECT_TRUE(torch::equal(set.train.clusters, parts.abs().argmax(1)));
  EXPECT_NEAR(set.train.labels.to(torch::kFloat32).mean().item<double>(), 0.5, 0.05);
  options.pairs = 9;
  EXPECT_THROW(make_soft_routed_set(options, 4), ArgumentError);
}

TEST(RotationTask, PairsEveryImageWithItsRotation) {
  Dataset source;
  source.name = "s";
  // A bright bar across the middle.
  auto images = torch::zeros({2, 3, 32, 32}, torch::kUInt8);
  images.slice(2, 14, 18).fill_(200);
  source.train = {images, torch::tensor({3, 7}), {}};
  source.test = source.train;
  source.normalization = {{0.5, 0.5, 0.5}, {0.5, 0.5, 0.5}};
  const auto task = make_rotation_task(source);
  EXPECT_TRUE(torch::equal(task.test.labels, torch::tensor({0, 1, 0, 1})));
  EXPECT_TRUE(torch::equal(task.test.clusters, torch::tensor({3, 3, 7, 7})));
  EXPECT_EQ(task.test.images.sizes().vec(), (std::vector<int64_t>{4, 3, 32, 32}));
  const auto straight = task.test.images[0][0].to(torch::kFloat32);
  const auto turned = task.test.images[1][0].to(torch::kFloat32);
  EXPECT_GT(straight[15][2].item<float>(), 150);  // the bar reaches the left edge,
  EXPECT_LT(turned[15][2].item<float>(), 50);     // turned it does not;
  EXPECT_GT(turned[15][15].item<float>(), 150);   // it still passes the middle,
  // and at column 2 lies 13.5 * tan 30 = 7.8 rows off.
  const float below = turned[23][2].item<float>();
  const float above = turned[8][2].item<float>();
  EXPECT_GT(std::max(below, above), 150);
  EXPECT_LT(std::min(below, above), 50);
  // Only training images are blurred.
  EXPECT_FALSE(torch::equal(task.train.images[0], task.test.images[0]));
}

}  // namespace
}  // namespace moekit::data
