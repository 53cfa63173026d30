// Every metric on what is too little or wrong: nothing, one token, one expert, a constant, NaN, ids
// outside their range.
#include <gtest/gtest.h>

#include <cmath>
#include <functional>

#include "moekit/core/error.h"
#include "moekit/metrics/alignment.h"
#include "moekit/metrics/load.h"
#include "moekit/metrics/routing_metrics.h"
#include "moekit/metrics/similarity.h"
#include "moekit/metrics/specialization.h"

namespace moekit::metrics {
namespace {

const double kNaN = std::nan("");

at::Generator generator() { return at::detail::createCPUGenerator(1); }
torch::Tensor ids(const std::vector<int64_t>& values) {
  return torch::tensor(values, torch::kLong);
}

/// What a call is refused with.
std::string refusal(const std::function<void()>& call) {
  try {
    call();
  } catch (const ArgumentError& error) {
    return error.what();
  }
  return "no error";
}

/// A value of [shape] with one NaN, its last.
torch::Tensor with_nan(at::IntArrayRef shape) {
  const auto out = torch::full(shape, 0.25);
  out.view({-1})[-1] = kNaN;
  return out;
}

TEST(Metrics, RefuseNaNWithItsPlace) {
  const auto labels = ids({0, 1});
  const auto used = torch::ones({2}, torch::kBool);
  const auto good = torch::full({2, 2}, 0.5);
  const auto bad = with_nan({2, 2});
  const auto outputs = torch::zeros({2, 2, 2});
  const std::vector<std::pair<const char*, std::function<void()>>> calls = {
      {"alignment: weights has nan at [1, 1]", [&] { alignment(bad, good); }},
      {"alignment: directions has nan at [1, 1]", [&] { alignment(good, bad); }},
      {"alignment_ratio: products has nan", [&] { alignment_ratio(good, bad, used); }},
      {"directions_covered: products has nan", [&] { directions_covered(bad, used); }},
      {"entropy: weights has nan", [&] { entropy(bad); }},
      {"metrics: the table of labels and experts has nan", [&] { label_alignment(bad); }},
      {"label_expert_mass: probs has nan", [&] { label_expert_mass(labels, bad, 2); }},
      {"metrics: the table of labels and experts has nan",
       [&] { mutual_information_baseline(bad); }},
      {"metrics: the table of labels and experts has nan", [&] { purity(bad); }},
      {"metrics: the table of labels and experts has nan", [&] { purity_baseline(bad); }},
      {"metrics: the table of labels and experts has nan", [&] { best_matching(bad); }},
      {"load_stats: load has nan at [2]", [&] { load_stats(with_nan({3})); }},
      {"sample_entropy: probs has nan", [&] { sample_entropy(bad); }},
      {"top1_mass: probs has nan", [&] { top1_mass(bad); }},
      {"coactivation_baseline", [&] { coactivation_baseline(kNaN, 3); }},
      {"router_saturation_baseline", [&] { router_saturation_baseline(kNaN, 3); }},
      {"routing_regret: losses has nan", [&] { routing_regret(bad, labels); }},
      {"subset_retention: probs has nan",
       [&] { subset_retention(bad, outputs, labels, used, 1, generator()); }},
      {"subset_retention: expert_log_probs has nan at [1, 1, 1]",
       [&] {
         subset_retention(good, with_nan({2, 2, 2}), labels, used, 1, generator());
       }},
      {"weight_cosine: weights has nan", [&] { weight_cosine(bad); }},
      {"output_cosine: outputs has nan at [1, 1, 1]",
       [&] {
         output_cosine(with_nan({2, 2, 2}));
       }},
      {"linear_cka: outputs has nan at [1, 8, 1]",
       [&] {
         linear_cka(with_nan({2, 9, 2}), CkaEstimator::kUnbiased);
       }},
      {"linear_cka: outputs has nan",
       [&] {
         linear_cka_baseline(with_nan({2, 9, 2}), CkaEstimator::kBiased, generator());
       }},
      {"specialization of layer moe: probs has nan",
       [&] {
         specialization_summary({"moe", labels, labels, bad}, {}, 2, false);
       }},
  };
  for (const auto& [begin, call] : calls) {
    const auto message = refusal(call);
    EXPECT_EQ(message.rfind(begin, 0), 0U) << begin << ": " << message;
    EXPECT_NE(message.find("nan"), std::string::npos) << message;
  }
  EXPECT_EQ(refusal([&] { top1_mass(bad); }),
            "top1_mass: probs has nan at [1, 1]; wanted finite numbers of at least 0");
}

TEST(Metrics, RefuseIdsOutsideTheirRangeWithTheValue) {
  const auto probs = torch::full({3, 2}, 0.5);
  const auto outputs = torch::zeros({2, 3, 4});
  const auto all = torch::ones({3}, torch::kBool);
  const auto unlabelled = ids({0, -100, 1});
  const auto beyond = ids({0, 1, 9});
  const auto good = ids({0, 1, 0});
  const std::vector<std::pair<const char*, std::function<void(const torch::Tensor&)>>> calls = {
      {"label_expert_counts: labels", [&](const auto& x) { label_expert_counts(x, good, 4, 2); }},
      {"label_expert_counts: expert_index",
       [&](const auto& x) { label_expert_counts(good, x, 4, 2); }},
      {"label_expert_mass: labels", [&](const auto& x) { label_expert_mass(x, probs, 4); }},
      {"expert_load: expert", [&](const auto& x) { expert_load(x, 2); }},
      {"routing_regret: chosen",
       [&](const auto& x) {
         routing_regret(torch::zeros({2, 3}), x);
       }},
      {"subset_retention: labels",
       [&](const auto& x) { subset_retention(probs, outputs, x, all, 1, generator()); }},
      {"LayerTrace moe: token",
       [&](const auto& x) {
         LayerTrace{"moe", x, good, probs}.active();
       }},
      {"LayerTrace moe: expert",
       [&](const auto& x) {
         LayerTrace{"moe", good, x, probs}.active();
       }},
      {"specialization of layer moe: labels.label",
       [&](const auto& x) {
         specialization_summary({"moe", good, good, probs}, {{}, {{"label", x}}, {}}, 4, true);
       }},
  };
  for (const auto& [what, call] : calls) {
    const std::string name = what;
    const auto& refuses = call;
    const auto begins = [&](const torch::Tensor& with, const char* fault) {
      const auto message = refusal([&] { refuses(with); });
      EXPECT_EQ(message.rfind(concat(name, fault), 0), 0U) << name << ": " << message;
    };
    begins(unlabelled, " has -100 at [1");
    begins(beyond, " has 9 at [2");
    EXPECT_NE(refusal([&] { refuses(good.to(torch::kFloat32)); }).find("wanted int64"),
              std::string::npos)
        << name;
  }
  EXPECT_EQ(
      refusal([&] {
        specialization_summary({"moe", good, good, probs}, {{}, {{"label", beyond}}, {}}, 4, true);
      }),
      "specialization of layer moe: labels.label has 9 at [2]; wanted 0..3");
  // A label that would size a table of terabytes.
  EXPECT_NE(refusal([&] { label_expert_counts(good, good, int64_t{1} << 40, 2); }).find("2^26"),
            std::string::npos);
}

TEST(Metrics, HaveAValueForNoToken) {
  const auto probs = torch::zeros({0, 3});
  const auto none = ids({});
  EXPECT_EQ(sample_entropy(probs), 0);
  EXPECT_EQ(top1_mass(probs), 0);
  EXPECT_TRUE(torch::equal(coactivation(torch::zeros({0, 3}, torch::kBool)),
                           torch::zeros({3, 3}, torch::kFloat64)));
  EXPECT_EQ(
      router_saturation(torch::zeros({0, 3}, torch::kBool), torch::zeros({0, 3}, torch::kBool)), 0);
  EXPECT_EQ(routing_regret(torch::zeros({3, 0}), none).random, 0);
  EXPECT_EQ(label_expert_counts(none, none, 2, 3).sum().item<double>(), 0);
  EXPECT_EQ(label_expert_mass(none, probs, 2).sum().item<double>(), 0);
  EXPECT_EQ(expert_load(none, 3).sum().item<double>(), 0);
  EXPECT_EQ(output_cosine(torch::zeros({2, 0, 3})).sum().item<double>(), 0);
  const auto retention = subset_retention(probs, torch::zeros({3, 0, 2}), none,
                                          torch::zeros({0}, torch::kBool), 1, generator());
  EXPECT_EQ(retention.random, 0);
  for (const auto estimator : {CkaEstimator::kBiased, CkaEstimator::kUnbiased}) {
    EXPECT_TRUE(torch::isnan(linear_cka(torch::zeros({2, 0, 3}), estimator)).all().item<bool>());
  }
  const auto empty = label_alignment(torch::zeros({0, 3}));
  EXPECT_EQ(empty.mutual_information, 0);
  EXPECT_EQ(purity(torch::zeros({0, 3})), 0);
  EXPECT_EQ(purity_baseline(torch::zeros({3, 0})), 0);
  EXPECT_EQ(best_matching(torch::zeros({0, 0})), 0);
  EXPECT_EQ(mutual_information_baseline(torch::zeros({0, 3})), 0);
  const auto summary = specialization_summary(
      {"moe", none, none, probs}, {{}, {{"label", none}, {"cluster", none}}, {}}, 2, true);
  EXPECT_EQ(summary["cluster"]["purity"], 0.0);
  EXPECT_EQ(summary["experts_used"], 0);
  // Of no expert there is nothing to say.
  EXPECT_NE(refusal([] { top1_mass(torch::zeros({4, 0})); }).find("E >= 1"), std::string::npos);
  EXPECT_NE(refusal([] {
              routing_regret(torch::zeros({0, 0}), ids({}));
            }).find("E >= 1"),
            std::string::npos);
  EXPECT_NE(refusal([] { router_saturation_baseline(0, 0); }).find("E >= 1"), std::string::npos);
}

TEST(Metrics, HaveAValueForOneTokenAndOneExpert) {
  const auto one = torch::ones({1, 1});
  const auto id = ids({0});
  EXPECT_EQ(sample_entropy(one), 0);
  EXPECT_EQ(top1_mass(one), 1);
  EXPECT_EQ(coactivation(one.to(torch::kBool)).item<double>(), 1);
  EXPECT_EQ(coactivation_baseline(1, 1), 0);
  EXPECT_EQ(coactivation_baseline(0.5, 4), 0);
  EXPECT_EQ(router_saturation(one.to(torch::kBool), one.to(torch::kBool)), 1);
  EXPECT_EQ(routing_regret(one, id).random, 0);
  const auto stats = load_stats(one.reshape({1}));
  EXPECT_EQ(stats.variation, 0);
  EXPECT_EQ(stats.gini, 0);
  const auto retention = subset_retention(one, torch::zeros({1, 1, 1}), id,
                                          torch::ones({1}, torch::kBool), 1, generator());
  EXPECT_EQ(retention.random, 1);
  EXPECT_EQ(retention.subsets, 1);
  const auto mean = mean_off_diagonal(weight_cosine(one));
  EXPECT_TRUE(std::isnan(mean.value));
  EXPECT_EQ(mean.counted + mean.left_out, 0);
  EXPECT_EQ(best_matching(one), 1);
}

TEST(LinearCka, UnbiasedIsHsicOneOfTheKernels) {
  // The definition as written (Song et al. 2012, eq. 5), kernels and all, on outputs not centred.
  torch::manual_seed(5);
  const auto x = torch::randn({3, 11, 4}, torch::kFloat64) + 3;
  const auto hsic = [&](int64_t i, int64_t j) {
    const auto hollow = [&](int64_t e) {
      const auto kernel = x[e].matmul(x[e].t());
      return kernel - torch::diag(kernel.diagonal());
    };
    const auto k = hollow(i);
    const auto l = hollow(j);
    const double n = 11;
    return ((k * l).sum() + k.sum() * l.sum() / ((n - 1) * (n - 2)) -
            2 / (n - 2) * k.sum(0).dot(l.sum(1)))
        .item<double>();
  };
  const auto cka = linear_cka(x, CkaEstimator::kUnbiased);
  for (int64_t i = 0; i < 3; ++i) {
    for (int64_t j = 0; j < 3; ++j) {
      EXPECT_NEAR(cka[i][j].item<double>(), hsic(i, j) / std::sqrt(hsic(i, i) * hsic(j, j)), 1e-9);
    }
  }
}

TEST(LinearCka, OfFewUnrelatedTokensIsHighBiasedAndNearZeroUnbiased) {
  torch::manual_seed(6);
  double biased = 0;
  double unbiased = 0;
  for (int i = 0; i < 100; ++i) {
    const auto x = torch::randn({2, 12, 10});
    biased += linear_cka(x, CkaEstimator::kBiased)[0][1].item<double>() / 100;
    unbiased += linear_cka(x, CkaEstimator::kUnbiased)[0][1].item<double>() / 100;
  }
  EXPECT_GT(biased, 0.4);
  EXPECT_NEAR(unbiased, 0, 0.05);
}

TEST(LinearCka, OfConstantsAndTooFewTokensHasNoValueAndIsLeftOutOfMeans) {
  torch::manual_seed(7);
  const auto x = torch::randn({30, 2});
  const auto constant = torch::full({30, 2}, 0.1);
  auto almost = torch::full({30, 2}, 0.1);
  almost[3] = 5.0;  // one token alone differs
  for (const auto estimator : {CkaEstimator::kBiased, CkaEstimator::kUnbiased}) {
    const auto cka = linear_cka(torch::stack({x, x * 2, constant}), estimator);
    EXPECT_TRUE(std::isnan(cka[0][2].item<double>()));
    EXPECT_TRUE(std::isnan(cka[2][2].item<double>()));
    const auto mean = mean_off_diagonal(cka);
    EXPECT_NEAR(mean.value, 1, 1e-6);
    EXPECT_EQ(mean.counted, 2);
    EXPECT_EQ(mean.left_out, 4);
    EXPECT_TRUE(std::isnan(
        mean_off_diagonal(linear_cka(torch::stack({constant, constant}), estimator)).value));
    EXPECT_TRUE(torch::isnan(linear_cka(torch::randn({2, 1, 3}), estimator)).all().item<bool>());
    // Scale does not matter, not even at the ends of float's range.
    EXPECT_NEAR(linear_cka(torch::stack({x * 1e37, x * 1e-37}), estimator)[0][1].item<double>(), 1,
                1e-5);
  }
  EXPECT_TRUE(std::isnan(
      linear_cka(torch::stack({x, almost}), CkaEstimator::kUnbiased)[0][1].item<double>()));
  EXPECT_TRUE(torch::isnan(linear_cka(torch::randn({2, 3, 3}), CkaEstimator::kUnbiased))
                  .all()
                  .item<bool>());
}

/// Expert 0 is always right and loud, the others are always wrong.
SubsetRetention one_good_expert(int64_t experts, int64_t keep, uint64_t seed) {
  const auto probs = torch::full({4, experts}, 0.01);
  probs.select(1, 0).fill_(0.9);
  const auto outputs = torch::log(torch::tensor({0.05, 0.95})).repeat({experts, 4, 1});
  outputs[0] = torch::log(torch::tensor({0.95, 0.05}));
  return subset_retention(probs, outputs, torch::zeros({4}, torch::kLong),
                          torch::ones({4}, torch::kBool), keep,
                          at::detail::createCPUGenerator(seed));
}

TEST(SubsetRetention, ItsBaselineIsThatOfARandomSubset) {
  // Half of all subsets hold expert 0. Of 924, 64 are drawn: 0.5 within 3 of 1 / (2 * 8).
  const auto drawn = one_good_expert(12, 6, 1);
  EXPECT_NEAR(drawn.random, 0.5, 0.19);
  EXPECT_FALSE(drawn.exact);
  EXPECT_EQ(drawn.subsets, 64);
  EXPECT_EQ(one_good_expert(12, 6, 1).random, drawn.random);
  double mean = 0;
  for (uint64_t seed = 0; seed < 40; ++seed) mean += one_good_expert(12, 6, seed).random / 40;
  EXPECT_NEAR(mean, 0.5, 0.03);
  // All 6 of 2 of 4.
  const auto all = one_good_expert(4, 2, 1);
  EXPECT_EQ(all.random, 0.5);
  EXPECT_TRUE(all.exact);
  EXPECT_EQ(all.subsets, 6);
  EXPECT_EQ(one_good_expert(200, 199, 1).subsets, 64);
}

TEST(SubsetRetention, KeepsTheLowerIndexOfEquallyUsedExperts) {
  // 32 experts used alike, of which only the first four are right.
  const auto outputs = torch::log(torch::tensor({0.1, 0.9})).repeat({32, 2, 1});
  outputs.slice(0, 0, 4) = torch::log(torch::tensor({0.9, 0.1}));
  const auto r = subset_retention(torch::full({2, 32}, 1.0 / 32), outputs, ids({0, 0}),
                                  torch::ones({2}, torch::kBool), 4, generator());
  EXPECT_EQ(r.kept, 1);
}

TEST(SubsetRetention, WithoutMassOnTheKeptExpertsTheyWeighTheSame) {
  // The router is sure of expert 0 (label 1); kept alone, expert 1 says class 1 too, and not 0
  // because its weight is 0.
  const auto probs = torch::tensor({{1.0, 0.0}});
  const auto outputs = torch::log(torch::tensor({0.1, 0.9, 0.2, 0.8})).reshape({2, 1, 2});
  const auto r =
      subset_retention(probs, outputs, ids({1}), torch::ones({1}, torch::kBool), 1, generator());
  EXPECT_EQ(r.random, 1);
}

TEST(DirectionsCovered, OfEquallyAlignedOnesTheFirst) {
  EXPECT_EQ(directions_covered(torch::ones({3, 40}), torch::ones({3}, torch::kBool)), 1);
}

}  // namespace
}  // namespace moekit::metrics
