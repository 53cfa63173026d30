#include <gtest/gtest.h>
#include <torch/torch.h>

#include <cmath>

#include "moekit/data/sets/cluster_patch.h"
#include "moekit/data/sets/soft_routed_teacher.h"
#include "moekit/data/sets/synthetic_clusters.h"
#include "moekit/tensor/generator.h"
#include "tests/support/said.h"

namespace moekit::data {
namespace {

/// What the check of these options, changed, is refused with.
template <typename Options, typename Change>
std::string options_refused(Change change) {
  Options options;
  change(options);
  return moekit::refusal([&] { options.check("o"); });
}

TEST(ClusterPatchRules, AreToldWithTheirValues) {
  using O = ClusterPatchOptions;
  const auto told = [](auto change) { return options_refused<O>(change); };
  EXPECT_EQ(told([](O&) {}), kTaken);
  EXPECT_EQ(told([](O& o) { o.num_clusters = 2; }), kTaken);
  EXPECT_EQ(told([](O& o) { o.num_clusters = 25; }), kTaken);
  EXPECT_EQ(told([](O& o) { o.num_clusters = 1; }),
            "o.num_clusters must be 2..dim/2 = 2..25; got 1");
  EXPECT_EQ(told([](O& o) { o.num_clusters = 26; }),
            "o.num_clusters must be 2..dim/2 = 2..25; got 26");
  EXPECT_EQ(told([](O& o) { o.dim = 7; }), "o.num_clusters must be 2..dim/2 = 2..3; got 4");
  EXPECT_EQ(told([](O& o) { o.num_patches = 3; }), kTaken);
  EXPECT_EQ(told([](O& o) { o.num_patches = 2; }), "o.num_patches must be at least 3; got 2");
  EXPECT_EQ(told([](O& o) { o.num_train = 0; }),
            "o.num_train and num_test must be at least 1; got 0 and 16000");
  EXPECT_EQ(told([](O& o) { o.alpha = {0, 0}; }), kTaken);
  EXPECT_EQ(told([](O& o) { o.alpha = {}; }),
            "o.alpha must be [low, high] with 0 <= low <= high; got [0]");
  EXPECT_EQ(told([](O& o) { o.beta = {3}; }),
            "o.beta must be [low, high] with 0 <= low <= high; got [3]");
  EXPECT_EQ(told([](O& o) {
              o.beta = {3, 2};
            }),
            "o.beta must be [low, high] with 0 <= low <= high; got [3, 2]");
  EXPECT_EQ(told([](O& o) {
              o.gamma = {-1, 2};
            }),
            "o.gamma must be [low, high] with 0 <= low <= high; got [-1, 2]");
  EXPECT_EQ(told([](O& o) {
              o.gamma = {1, 2, 3};
            }),
            "o.gamma must be [low, high] with 0 <= low <= high; got [1, 2]");
  EXPECT_EQ(told([](O& o) { o.noise = 0; }), kTaken);
  EXPECT_EQ(told([](O& o) { o.noise = -0.5; }), "o.noise must be at least 0; got -0.5");
  EXPECT_EQ(told([](O& o) { o.input_scale = 0.5; }), kTaken);
  EXPECT_EQ(told([](O& o) { o.input_scale = 0; }), "o.input_scale must be positive; got 0");
  const auto much = told([](O& o) {
    o.dim = 1'000'000'000;
    o.num_clusters = 500'000'000;
  });
  EXPECT_EQ(much.substr(0, 91),
            "o.num_clusters = 500000000, dim = 1000000000: "
            "[1000000000, 1000000000] of 8 byte(s) take 8e");
  const auto samples = told([](O& o) { o.num_test = 1'000'000'000'000; });
  EXPECT_EQ(samples.substr(0, 75),
            "o.num_test = 1000000000000: [1000000000000, 4, 50] of 12 byte(s) take 2.4e+");
}

TEST(ClusterPatchRules, TheSetTellsWhatItIs) {
  ClusterPatchOptions options;
  options.num_train = 40;
  options.num_test = 30;
  options.num_patches = 3;
  options.num_clusters = 3;
  options.dim = 7;
  const auto set = make_cluster_patch(options, 2);
  EXPECT_EQ(set.name, "cluster-patch");
  EXPECT_EQ(set.source, "generated");
  EXPECT_EQ(set.class_names, (std::vector<std::string>{"-1", "+1"}));
  EXPECT_EQ(set.normalization.mean, std::vector<double>{0});
  EXPECT_EQ(set.normalization.std_dev, std::vector<double>{1});
  EXPECT_EQ(set.train.images.sizes().vec(), (std::vector<int64_t>{40, 1, 3, 7}));
  EXPECT_EQ(set.test.images.sizes().vec(), (std::vector<int64_t>{30, 1, 3, 7}));
  EXPECT_EQ(set.train.images.scalar_type(), torch::kFloat32);
  EXPECT_EQ(set.directions.at("label").sizes().vec(), (std::vector<int64_t>{3, 7}));
  EXPECT_EQ(set.directions.at("centre").sizes().vec(), (std::vector<int64_t>{3, 7}));
  EXPECT_EQ(moekit::refusal([&] {
              options.noise = -1;
              make_cluster_patch(options, 2);
            }),
            "cluster-patch.noise must be at least 0; got -1");
}

TEST(ClusterPatchRules, EveryOtherClusterConfusesAsOftenAndLengthsFillTheirRanges) {
  ClusterPatchOptions options;
  options.num_train = 6000;
  options.num_test = 1;
  options.noise = 0;
  options.num_clusters = 5;
  const auto set = make_cluster_patch(options, 9);
  const auto& v = set.directions.at("label");
  const auto sum = set.train.images.squeeze(1).sum(1) / options.input_scale;
  const auto along = sum.matmul(v.t());
  const auto own = along.gather(1, set.train.clusters.unsqueeze(1)).squeeze(1);
  const auto others = along.scatter(1, set.train.clusters.unsqueeze(1), 0.0);
  const auto other = others.abs().argmax(1);
  EXPECT_FALSE(other.eq(set.train.clusters).any().item<bool>());
  for (int64_t k = 0; k < 5; ++k) {
    EXPECT_NEAR(set.train.clusters.eq(k).sum().item<double>(), 1200, 150) << k;
    for (int64_t offset = 1; offset < 5; ++offset) {
      const auto pair = set.train.clusters.eq(k).logical_and(other.eq((k + offset) % 5));
      EXPECT_NEAR(pair.sum().item<double>(), 300, 80) << k << " " << offset;
    }
  }
  EXPECT_NEAR(own.abs().min().item<double>(), 0.5, 0.01);
  EXPECT_NEAR(own.abs().max().item<double>(), 2, 0.01);
  EXPECT_NEAR(others.abs().amax(1).min().item<double>(), 0.5, 0.01);
  EXPECT_NEAR(others.abs().amax(1).max().item<double>(), 3, 0.01);
  EXPECT_NEAR(set.train.labels.to(torch::kFloat32).mean().item<double>(), 0.5, 0.03);
}

TEST(SoftRoutedRules, AreToldWithTheirValues) {
  using O = SoftRoutedSetOptions;
  const auto told = [](auto change) { return options_refused<O>(change); };
  EXPECT_EQ(told([](O&) {}), kTaken);
  EXPECT_EQ(told([](O& o) { o.pairs = 1; }), kTaken);
  EXPECT_EQ(told([](O& o) { o.pairs = 8; }), kTaken);
  EXPECT_EQ(told([](O& o) { o.pairs = 0; }), "o.pairs must be 1..dim/2 = 1..8; got 0");
  EXPECT_EQ(told([](O& o) { o.pairs = 9; }), "o.pairs must be 1..dim/2 = 1..8; got 9");
  EXPECT_EQ(told([](O& o) { o.num_test = 0; }),
            "o.num_train and num_test must be at least 1; got 16000 and 0");
  const auto much = told([](O& o) {
    o.dim = 1'000'000'000;
    o.pairs = 500'000'000;
  });
  EXPECT_EQ(much.substr(0, 84),
            "o.pairs = 500000000, dim = 1000000000: "
            "[1000000000, 1000000000] of 8 byte(s) take 8e");
  const auto samples = told([](O& o) { o.num_train = 1'000'000'000'000; });
  EXPECT_EQ(samples.substr(0, 69),
            "o.num_train = 1000000000000: [1000000000000, 20] of 4 byte(s) take 8e");
  const auto generator = tensor::make_generator(1);
  EXPECT_EQ(moekit::refusal([&] { make_teacher(0, 7, SoftGate::kSigmoid, generator); }),
            "soft-routed teacher: pairs must be 1..dim/2 = 1..3; got 0");
  EXPECT_EQ(moekit::refusal([&] { make_teacher(4, 7, SoftGate::kSigmoid, generator); }),
            "soft-routed teacher: pairs must be 1..dim/2 = 1..3; got 4");
}

TEST(SoftRoutedRules, TeachersAreOrthonormalAndOfTheirGenerator) {
  for (const auto gate : {SoftGate::kSigmoid, SoftGate::kSoftmax}) {
    const auto teacher = make_teacher(3, 7, gate, tensor::make_generator(5));
    EXPECT_EQ(teacher.size(), 3);
    EXPECT_EQ(teacher.gate, gate);
    EXPECT_EQ(teacher.w.sizes().vec(), (std::vector<int64_t>{3, 7}));
    const auto all = torch::cat({teacher.w, teacher.v});
    EXPECT_EQ(all.scalar_type(), torch::kFloat32);
    EXPECT_TRUE(torch::allclose(all.matmul(all.t()), torch::eye(6), 0, 1e-6));
    EXPECT_TRUE(torch::equal(teacher.v, make_teacher(3, 7, gate, tensor::make_generator(5)).v));
    EXPECT_FALSE(torch::equal(teacher.v, make_teacher(3, 7, gate, tensor::make_generator(6)).v));
    const auto some = teacher.select(torch::tensor({2, 0}));
    EXPECT_TRUE(torch::equal(some.w, torch::stack({teacher.w[2], teacher.w[0]})));
    EXPECT_TRUE(torch::equal(some.v, torch::stack({teacher.v[2], teacher.v[0]})));
    EXPECT_EQ(some.gate, gate);
  }
}

TEST(SoftRoutedRules, PartsAreThoseOfPlainLoops) {
  const double z[] = {-2, -0.5, 0, 1, 3};
  for (const double x : z) {
    const auto at = torch::tensor({x}, torch::kFloat64);
    EXPECT_NEAR(hermite3(at).item<double>(), (x * x * x - 3 * x) / std::sqrt(6), 1e-12);
    EXPECT_NEAR(hermite3_slope(at).item<double>(), (3 * x * x - 3) / std::sqrt(6), 1e-12);
  }
  for (const auto gate : {SoftGate::kSigmoid, SoftGate::kSoftmax}) {
    const auto teacher = make_teacher(3, 7, gate, tensor::make_generator(5));
    const auto x = torch::empty({4, 7}).normal_(0, 1, tensor::make_generator(8));
    const auto parts = teacher.parts(x);
    for (int64_t n = 0; n < 4; ++n) {
      double exponentials = 0;
      for (int64_t j = 0; j < 3; ++j)
        exponentials += std::exp(x[n].dot(teacher.w[j]).item<float>());
      for (int64_t j = 0; j < 3; ++j) {
        const double score = x[n].dot(teacher.w[j]).item<float>();
        const double of = gate == SoftGate::kSigmoid ? 1 / (1 + std::exp(-score))
                                                     : std::exp(score) / exponentials;
        const double turned = x[n].dot(teacher.v[j]).item<float>();
        EXPECT_NEAR(parts[n][j].item<double>(),
                    of * (turned * turned * turned - 3 * turned) / std::sqrt(6), 1e-5);
      }
    }
    EXPECT_TRUE(torch::equal(teacher.forward(x), parts.sum(1)));
  }
}

TEST(SoftRoutedRules, TheSetTellsWhatItIs) {
  SoftRoutedSetOptions options;
  options.num_train = 50;
  options.num_test = 20;
  options.dim = 9;
  options.gate = SoftGate::kSoftmax;
  const auto set = make_soft_routed_set(options, 3);
  EXPECT_EQ(set.name, "soft-routed-teacher");
  EXPECT_EQ(set.source, "generated");
  EXPECT_EQ(set.class_names, (std::vector<std::string>{"f* <= 0", "f* > 0"}));
  EXPECT_EQ(set.normalization.mean, std::vector<double>{0});
  EXPECT_EQ(set.normalization.std_dev, std::vector<double>{1});
  EXPECT_EQ(set.train.images.sizes().vec(), (std::vector<int64_t>{50, 1, 1, 9}));
  EXPECT_EQ(set.test.images.sizes().vec(), (std::vector<int64_t>{20, 1, 1, 9}));
  const SoftRouted teacher{set.directions.at("router"), set.directions.at("expert"), options.gate};
  const auto parts = teacher.parts(set.test.images.flatten(1));
  EXPECT_TRUE(torch::equal(set.test.labels, parts.sum(1).gt(0).to(torch::kLong)));
  EXPECT_TRUE(torch::equal(set.test.clusters, parts.abs().argmax(1)));
  options.pairs = 2;
  options.num_train = 20'000;
  const auto x = make_soft_routed_set(options, 3).train.images;
  EXPECT_NEAR(x.mean().item<double>(), 0, 0.01);
  EXPECT_NEAR(x.std().item<double>(), 1, 0.01);
  EXPECT_TRUE(torch::equal(x, make_soft_routed_set(options, 3).train.images));
  EXPECT_FALSE(torch::equal(x, make_soft_routed_set(options, 4).train.images));
  options.pairs = 5;
  EXPECT_EQ(moekit::refusal([&] { make_soft_routed_set(options, 3); }),
            "soft-routed-teacher.pairs must be 1..dim/2 = 1..4; got 5");
}

TEST(ClusterImageRules, AreToldWithTheirValues) {
  using O = ClusterImagesOptions;
  const auto told = [](auto change) { return options_refused<O>(change); };
  EXPECT_EQ(told([](O&) {}), kTaken);
  EXPECT_EQ(told([](O& o) { o.num_clusters = 1; }), kTaken);
  EXPECT_EQ(told([](O& o) { o.num_clusters = 8; }), kTaken);
  EXPECT_EQ(told([](O& o) { o.num_clusters = 0; }), "o.num_clusters must be 1..8; got 0");
  EXPECT_EQ(told([](O& o) { o.num_clusters = 9; }), "o.num_clusters must be 1..8; got 9");
  EXPECT_EQ(told([](O& o) { o.num_classes = 2; }), kTaken);
  EXPECT_EQ(told([](O& o) { o.num_classes = 8; }), kTaken);
  EXPECT_EQ(told([](O& o) { o.num_classes = 1; }), "o.num_classes must be 2..8; got 1");
  EXPECT_EQ(told([](O& o) { o.num_classes = 9; }), "o.num_classes must be 2..8; got 9");
  EXPECT_EQ(told([](O& o) { o.noise = 0; }), kTaken);
  EXPECT_EQ(told([](O& o) { o.noise = -0.25; }), "o.noise must be at least 0; got -0.25");
  EXPECT_EQ(told([](O& o) { o.num_test = 0; }),
            "o.num_train and num_test must be at least 1; got 2000 and 0");
  const auto samples = told([](O& o) { o.num_train = 1'000'000'000'000; });
  EXPECT_EQ(samples.substr(0, 75),
            "o.num_train = 1000000000000: [1000000000000, 12, 12] of 12 byte(s) take 1.7");
}

TEST(ClusterImageRules, EveryPixelIsThatOfItsClusterAndLabel) {
  ClusterImagesOptions options;
  options.num_train = 600;
  options.num_test = 50;
  options.num_clusters = 8;
  options.num_classes = 5;
  options.noise = 0;
  const auto set = make_cluster_images(options, 3);
  EXPECT_EQ(set.name, "synthetic-clusters");
  EXPECT_EQ(set.source, "generated");
  EXPECT_EQ(set.class_names,
            (std::vector<std::string>{"class 0", "class 1", "class 2", "class 3", "class 4"}));
  EXPECT_EQ(set.normalization.mean, std::vector<double>{0.15});
  EXPECT_EQ(set.normalization.std_dev, std::vector<double>{0.25});
  EXPECT_EQ(set.test.images.sizes().vec(), (std::vector<int64_t>{50, 1, 12, 12}));
  for (const auto* part : {&set.train, &set.test}) {
    for (int64_t n = 0; n < part->size(); ++n) {
      const auto cluster = part->clusters[n].item<int64_t>();
      const auto label = part->labels[n].item<int64_t>();
      auto want = torch::zeros({12, 12});
      if (cluster < 6) want[cluster].fill_(0.7);
      if (cluster >= 6) want[cluster - 6].slice(0, 6, 12).fill_(0.7);
      want.slice(0, 6, 12).select(1, 1 + (label + cluster) % 5).fill_(0.7);
      EXPECT_TRUE(torch::equal(part->images[n][0], want.mul(255).round().to(torch::kUInt8))) << n;
    }
  }
  EXPECT_TRUE(torch::bincount(set.train.clusters, {}, 8).gt(40).all().item<bool>());
  EXPECT_TRUE(torch::bincount(set.train.labels, {}, 5).gt(80).all().item<bool>());
}

TEST(ClusterImageRules, NoiseHasItsSpreadAndTheNumbersStayWithinBytes) {
  ClusterImagesOptions options;
  options.noise = 0.05;
  options.num_clusters = 1;
  const auto images = make_cluster_images(options, 3).train.images.to(torch::kFloat64);
  const auto bright = images.select(2, 0);  // the row of the only cluster
  EXPECT_NEAR(bright.mean().item<double>(), 0.7 * 255, 0.3);
  EXPECT_NEAR(bright.std().item<double>(), 0.05 * 255, 0.3);
  const auto dark = images.select(2, 1);  // half of it is cut at 0
  EXPECT_NEAR(dark.mean().item<double>(), 0.05 * 255 / std::sqrt(2 * M_PI), 0.3);
  EXPECT_EQ(moekit::refusal([&] {
              options.noise = -1;
              make_cluster_images(options, 3);
            }),
            "synthetic-clusters.noise must be at least 0; got -1");
  // Pixel noise is another with another seed, and the same with the same.
  ClusterImagesOptions loud;
  loud.noise = 3;
  const auto a = make_cluster_images(loud, 1).test.images;
  EXPECT_TRUE(torch::equal(a, make_cluster_images(loud, 1).test.images));
  EXPECT_NEAR(a.eq(255).to(torch::kFloat64).mean().item<double>(), 0.38, 0.05);
}

}  // namespace
}  // namespace moekit::data
