#include "moekit/metrics/information.h"

#include <gtest/gtest.h>

#include "moekit/core/error.h"
#include "moekit/metrics/load.h"
#include "moekit/metrics/similarity.h"

namespace moekit::metrics {
namespace {

TEST(Entropy, OfHandWorkedVectors) {
  EXPECT_NEAR(entropy(torch::tensor({1.0, 1.0, 1.0, 1.0})), 2, 1e-12);
  EXPECT_NEAR(entropy(torch::tensor({0.5, 0.25, 0.25, 0.0})), 1.5, 1e-12);
  EXPECT_NEAR(entropy(torch::tensor({1.0, 1.0}), LogBase::kNats), std::log(2.0), 1e-12);
  EXPECT_EQ(entropy(torch::tensor({3.0})), 0);
  EXPECT_EQ(entropy(torch::zeros({4})), 0);
  EXPECT_EQ(entropy(torch::zeros({0})), 0);
}

TEST(LabelAlignment, IsFullInformationForOneLabelAnExpert) {
  const auto a = label_alignment(torch::eye(4) * 5);
  EXPECT_NEAR(a.mutual_information, 2, 1e-9);
  EXPECT_NEAR(a.normalized, 1, 1e-9);
  EXPECT_EQ(a.label_given_expert, 0);
  EXPECT_EQ(a.expert_given_label, 0);
}

TEST(LabelAlignment, IsZeroForIndependenceCollapseAndNothing) {
  EXPECT_NEAR(label_alignment(torch::ones({3, 4})).mutual_information, 0, 1e-9);
  const auto collapsed = torch::zeros({3, 4});
  collapsed.select(1, 2).fill_(7);
  const auto a = label_alignment(collapsed);
  EXPECT_NEAR(a.mutual_information, 0, 1e-9);
  EXPECT_EQ(a.normalized, 0);
  EXPECT_NEAR(a.label_given_expert, std::log2(3.0), 1e-9);
  EXPECT_EQ(label_alignment(torch::zeros({3, 4})).mutual_information, 0);
}

TEST(LabelAlignment, BothWaysOfTakingTheInformationAgree) {
  torch::manual_seed(1);
  for (const auto base : {LogBase::kBits, LogBase::kNats}) {
    const auto a = label_alignment(torch::rand({5, 3}), base);
    EXPECT_NEAR(a.label_entropy - a.label_given_expert, a.expert_entropy - a.expert_given_label,
                1e-9);
    EXPECT_NEAR(a.label_entropy - a.label_given_expert, a.mutual_information, 1e-9);
  }
}

TEST(LabelExpertTables, CountHardChoicesAndSumSoftOnes) {
  const auto labels = torch::tensor({0, 0, 1}, torch::kLong);
  const auto index = torch::tensor({{0, 1}, {0, 2}, {2, 1}}, torch::kLong);
  const auto want = torch::tensor({{2.0, 1.0, 1.0}, {0.0, 1.0, 1.0}}, torch::kFloat64);
  EXPECT_TRUE(torch::equal(label_expert_counts(labels, index, 2, 3), want));
  const auto probs = torch::tensor({{0.5, 0.5}, {1.0, 0.0}, {0.25, 0.75}});
  EXPECT_TRUE(torch::allclose(label_expert_mass(labels, probs, 2),
                              torch::tensor({{1.5, 0.5}, {0.25, 0.75}}, torch::kFloat64)));
  EXPECT_THROW(label_expert_counts(labels, index.slice(0, 0, 2), 2, 3), ArgumentError);
}

TEST(MutualInformationBaseline, IsWhatRandomAssignmentsGive) {
  torch::manual_seed(2);
  double mean = 0;
  torch::Tensor table;
  for (int i = 0; i < 200; ++i) {
    table = label_expert_counts(torch::randint(4, {500}, torch::kLong),
                                torch::randint(3, {500}, torch::kLong), 4, 3);
    mean += label_alignment(table).mutual_information / 200;
  }
  EXPECT_NEAR(mean, mutual_information_baseline(table), 0.15 * mean);
}

TEST(Purity, AndItsBaselineByHand) {
  // Expert 0: 3 + 1, expert 1: 0 + 2: (3 + 2) / 6; the larger label has 3 of 6.
  const auto table = torch::tensor({{3.0, 0.0}, {1.0, 2.0}});
  EXPECT_NEAR(purity(table), 5.0 / 6, 1e-12);
  EXPECT_NEAR(purity_baseline(table), 0.5, 1e-12);
  EXPECT_EQ(purity(torch::zeros({2, 2})), 0);
}

TEST(BestMatching, FindsTheBestPairsWhereTheGreedyChoiceIsWrong) {
  // Greedy takes 5 + 0; the best is 4 + 4.
  EXPECT_NEAR(best_matching(torch::tensor({{5.0, 4.0}, {4.0, 0.0}})), 8.0 / 13, 1e-12);
  EXPECT_NEAR(best_matching(torch::tensor({{0.0, 1.0, 0.0}, {0.0, 0.0, 1.0}, {1.0, 0.0, 0.0}})), 1,
              1e-12);
  EXPECT_NEAR(best_matching(torch::tensor({{1.0}, {3.0}})), 0.75, 1e-12);
  EXPECT_NEAR(best_matching(torch::tensor({{1.0, 3.0}})), 0.75, 1e-12);
}

TEST(BestMatching, EqualsTheBestOfAllPermutations) {
  torch::manual_seed(3);
  for (int trial = 0; trial < 20; ++trial) {
    const auto table = torch::randint(0, 20, {5, 5}).to(torch::kFloat64);
    std::vector<int64_t> p = {0, 1, 2, 3, 4};
    double best = 0;
    do {
      double sum = 0;
      for (int64_t r = 0; r < 5; ++r) sum += table[r][p[static_cast<size_t>(r)]].item<double>();
      best = std::max(best, sum);
    } while (std::next_permutation(p.begin(), p.end()));
    ASSERT_NEAR(best_matching(table), best / table.sum().item<double>(), 1e-9);
  }
}

TEST(MaxViolation, IsHowFarTheFullestIsAboveTheMean) {
  EXPECT_NEAR(max_violation(torch::tensor({1.0, 1.0, 4.0, 2.0})), 1, 1e-12);
  EXPECT_NEAR(max_violation(torch::tensor({3.0, 3.0})), 0, 1e-12);
  EXPECT_NEAR(max_violation(torch::tensor({0.0, 9.0, 0.0})), 2, 1e-12);
  EXPECT_EQ(max_violation(torch::zeros({3})), 0);
}

TEST(ActivationShare, CountsExpertsOfATenthOfAnEqualShareAtLeast) {
  EXPECT_NEAR(activation_share(torch::tensor({101.0, 50.0, 3.0, 6.0})), 0.75, 1e-12);
  EXPECT_NEAR(activation_share(torch::tensor({1.0, 1.0})), 1, 1e-12);
  EXPECT_EQ(activation_share(torch::zeros({3})), 0);
}

TEST(LoadStats, OfEqualSkewedAndEmptyLoads) {
  const auto equal = load_stats(torch::tensor({2.0, 2.0, 2.0, 2.0}));
  EXPECT_EQ(equal.variation, 0);
  EXPECT_NEAR(equal.gini, 0, 1e-12);
  EXPECT_NEAR(equal.entropy_bits, 2, 1e-12);
  EXPECT_EQ(equal.experts_used, 4);
  const auto one = load_stats(torch::tensor({0.0, 8.0, 0.0, 0.0}));
  EXPECT_NEAR(one.variation, std::sqrt(3.0), 1e-12);
  EXPECT_NEAR(one.gini, 0.75, 1e-12);
  EXPECT_EQ(one.dead, (std::vector<int64_t>{0, 2, 3}));
  const auto none = load_stats(torch::zeros({3}));
  EXPECT_EQ(none.experts_used, 0);
  EXPECT_EQ(none.entropy_bits, 0);
  EXPECT_EQ(none.gini, 0);
  EXPECT_TRUE(torch::equal(expert_load(torch::tensor({0, 2, 2, 1}, torch::kLong), 4),
                           torch::tensor({1.0, 1.0, 2.0, 0.0}, torch::kFloat64)));
}

TEST(Similarity, IsOneForTheSameAndZeroForOrthogonalWeights) {
  const auto w = torch::tensor({{1.0, 0.0}, {0.0, 2.0}, {-3.0, 0.0}});
  const auto c = weight_cosine(w);
  EXPECT_NEAR(c[0][0].item<double>(), 1, 1e-12);
  EXPECT_NEAR(c[0][1].item<double>(), 0, 1e-12);
  EXPECT_NEAR(c[0][2].item<double>(), -1, 1e-12);
  EXPECT_NEAR(mean_off_diagonal(c).value, -1.0 / 3, 1e-12);
}

TEST(LinearCka, IsOneUpToRotationAndScaleAndNearZeroForUnrelatedOutputs) {
  torch::manual_seed(4);
  const auto x = torch::randn({400, 3});
  const auto rotation = std::get<0>(torch::linalg_qr(torch::randn({3, 3})));
  const auto outputs = torch::stack({x, 5 * x.matmul(rotation) + 2, torch::randn({400, 3})});
  const auto cka = linear_cka(outputs, CkaEstimator::kBiased);
  EXPECT_NEAR(cka[0][1].item<double>(), 1, 1e-6);
  EXPECT_LT(cka[0][2].item<double>(), 0.05);
  EXPECT_LT(linear_cka_baseline(outputs, CkaEstimator::kBiased, at::detail::createCPUGenerator(1)),
            0.05);
  EXPECT_NEAR(output_cosine(torch::stack({x, x * 2}))[0][1].item<double>(), 1, 1e-6);
}

}  // namespace
}  // namespace moekit::metrics
