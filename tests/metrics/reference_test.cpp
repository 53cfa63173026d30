// Every metric against its definition, written as plain loops, on random values of unequal sizes.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <map>

#include "moekit/metrics/alignment.h"
#include "moekit/metrics/continual.h"
#include "moekit/metrics/information.h"
#include "moekit/metrics/load.h"
#include "moekit/metrics/routing_metrics.h"
#include "moekit/metrics/similarity.h"
#include "moekit/metrics/specialization.h"
#include "tests/support/expected_file.h"

namespace moekit::metrics {
namespace {

torch::Tensor whole(const std::vector<int64_t>& values) {
  return torch::tensor(values, torch::kLong);
}

torch::Tensor random_probs(int64_t tokens, int64_t experts) {
  return torch::softmax(2 * torch::randn({tokens, experts}, torch::kFloat64), 1);
}

double entropy_of(const std::map<std::vector<int64_t>, double>& counts) {
  double total = 0;
  for (const auto& [key, count] : counts) total += count;
  double sum = 0;
  for (const auto& [key, count] : counts) {
    if (count > 0) sum -= count / total * std::log2(count / total);
  }
  return sum;
}

TEST(MetricsReference, LabelAlignment) {
  torch::manual_seed(1);
  const auto table = torch::randint(0, 9, {3, 5}).to(torch::kFloat64);
  std::map<std::vector<int64_t>, double> joint;
  std::map<std::vector<int64_t>, double> labels;
  std::map<std::vector<int64_t>, double> experts;
  double most = 0;
  for (int64_t l = 0; l < 3; ++l) {
    for (int64_t e = 0; e < 5; ++e) {
      const double count = table[l][e].item<double>();
      joint[{l, e}] += count;
      labels[{l}] += count;
      experts[{e}] += count;
    }
  }
  for (int64_t e = 0; e < 5; ++e) most += table.select(1, e).max().item<double>();
  const auto bits = label_alignment(table);
  const double h = entropy_of(joint);
  EXPECT_NEAR(bits.expert_entropy, entropy_of(experts), 1e-12);
  EXPECT_NEAR(bits.label_entropy, entropy_of(labels), 1e-12);
  EXPECT_NEAR(bits.label_given_expert, h - entropy_of(experts), 1e-12);
  EXPECT_NEAR(bits.expert_given_label, h - entropy_of(labels), 1e-12);
  EXPECT_NEAR(bits.mutual_information, entropy_of(experts) + entropy_of(labels) - h, 1e-12);
  EXPECT_NEAR(bits.normalized, bits.mutual_information / entropy_of(labels), 1e-12);
  EXPECT_LT(bits.label_entropy, bits.expert_entropy);  // the lesser of both is what divides
  EXPECT_NEAR(label_alignment(table, LogBase::kNats).mutual_information,
              bits.mutual_information * std::log(2.0), 1e-12);
  const double total = table.sum().item<double>();
  EXPECT_NEAR(purity(table), most / total, 1e-12);
  EXPECT_NEAR(purity_baseline(table), table.sum(1).max().item<double>() / total, 1e-12);
  EXPECT_NEAR(mutual_information_baseline(table, LogBase::kNats), 2 * 4 / (2 * total), 1e-12);
  auto empty = table.clone();
  empty.select(0, 1).zero_();
  empty.select(1, 2).zero_();
  empty.select(1, 4).zero_();
  EXPECT_NEAR(mutual_information_baseline(empty, LogBase::kNats),
              1 * 2 / (2 * empty.sum().item<double>()), 1e-12);
}

TEST(MetricsReference, LoadStats) {
  const auto load = torch::tensor({6.0, 0.0, 1.0, 3.0});
  const auto stats = load_stats(load);
  double pairs = 0;
  double squares = 0;
  for (int64_t i = 0; i < 4; ++i) {
    const double x = load[i].item<double>();
    squares += (x - 2.5) * (x - 2.5) / 4;
    for (int64_t j = 0; j < 4; ++j) pairs += std::fabs(x - load[j].item<double>());
  }
  EXPECT_NEAR(stats.gini, pairs / (2 * 16 * 2.5), 1e-12);
  EXPECT_NEAR(stats.variation, std::sqrt(squares) / 2.5, 1e-12);
  EXPECT_EQ(stats.fraction, (std::vector<double>{0.6, 0, 0.1, 0.3}));
  EXPECT_EQ(stats.dead, std::vector<int64_t>{1});
  EXPECT_EQ(stats.experts_used, 3);
  // An expert counts as used above a hundredth of an equal share: of 2 that is 0.005 of all.
  EXPECT_EQ(load_stats(torch::tensor({199.0, 1.0})).experts_used, 1);
  EXPECT_EQ(load_stats(torch::tensor({198.0, 1.0})).experts_used, 2);
  EXPECT_EQ(load_stats(torch::zeros({3})).dead, (std::vector<int64_t>{0, 1, 2}));
  EXPECT_NEAR(max_violation(load), 6 / 2.5 - 1, 1e-12);
  EXPECT_EQ(max_violation(torch::zeros({3})), 0);
  EXPECT_NEAR(activation_share(torch::tensor({19.0, 1.0, 10.0, 0.9, 19.1})), 0.8, 1e-12);
  EXPECT_NEAR(activation_share(torch::tensor({38.0, 1.9, 20.1})), 2. / 3, 1e-12);
  EXPECT_NEAR(activation_share(torch::tensor({1.0, 19.0})), 1, 1e-12);  // a tenth itself counts
  EXPECT_EQ(activation_share(torch::zeros({3})), 0);
}

TEST(MetricsReference, RoutingOverTokens) {
  torch::manual_seed(2);
  const auto probs = random_probs(7, 3);
  double entropy_sum = 0;
  double mass = 0;
  for (int64_t n = 0; n < 7; ++n) {
    double most = 0;
    for (int64_t e = 0; e < 3; ++e) {
      const double p = probs[n][e].item<double>();
      entropy_sum -= p * std::log(p);
      most = std::max(most, p);
    }
    mass += most;
  }
  EXPECT_NEAR(sample_entropy(probs, LogBase::kNats), entropy_sum / 7, 1e-12);
  EXPECT_NEAR(sample_entropy(probs), entropy_sum / 7 / std::log(2.0), 1e-12);
  EXPECT_NEAR(top1_mass(probs), mass / 7, 1e-12);

  const auto early = torch::rand({9, 4}).lt(0.5);
  auto late = torch::rand({9, 4}).lt(0.4);
  late[3].fill_(false);
  const auto share = coactivation(early);
  double saturation = 0;
  int64_t counted = 0;
  for (int64_t i = 0; i < 4; ++i) {
    for (int64_t j = 0; j < 4; ++j) {
      double both = 0;
      double own = 0;
      for (int64_t n = 0; n < 9; ++n) {
        both += (early[n][i] & early[n][j]).item<bool>() ? 1 : 0;
        own += early[n][j].item<bool>() ? 1 : 0;
      }
      EXPECT_NEAR(share[i][j].item<double>(), both / std::max(own, 1.0), 1e-12);
    }
  }
  for (int64_t n = 0; n < 9; ++n) {
    double kept = 0;
    double all = 0;
    for (int64_t e = 0; e < 4; ++e) {
      if (!late[n][e].item<bool>()) continue;
      ++all;
      kept += early[n][e].item<bool>() ? 1 : 0;
    }
    if (all == 0) continue;
    saturation += kept / all;
    ++counted;
  }
  EXPECT_NEAR(router_saturation(early, late), saturation / static_cast<double>(counted), 1e-12);
  EXPECT_EQ(router_saturation(early, torch::zeros({9, 4}, torch::kBool)), 0);
  EXPECT_NEAR(router_saturation_baseline(1.5, 6), 0.25, 1e-12);
  EXPECT_NEAR(coactivation_baseline(3, 6), 0.4, 1e-12);
  EXPECT_EQ(coactivation_baseline(0.5, 6), 0);
  EXPECT_EQ(coactivation_baseline(1, 1), 0);
  EXPECT_EQ(coactivation_baseline(6, 6), 1);

  const auto losses = torch::rand({3, 5}, torch::kFloat64);
  const auto chosen = whole({2, 0, 1, 1, 2});
  double own = 0;
  double random = 0;
  for (int64_t n = 0; n < 5; ++n) {
    const double best = losses.select(1, n).min().item<double>();
    own += losses[chosen[n].item<int64_t>()][n].item<double>() - best;
    random += losses.select(1, n).mean().item<double>() - best;
  }
  const auto regret = routing_regret(losses, chosen);
  EXPECT_NEAR(regret.chosen, own / 5, 1e-12);
  EXPECT_NEAR(regret.random, random / 5, 1e-12);
}

/// Accuracy of these experts together on the tokens of a domain.
double accuracy_by_hand(const torch::Tensor& probs, const torch::Tensor& log_probs,
                        const torch::Tensor& labels, const torch::Tensor& mask,
                        const std::vector<int64_t>& experts) {
  double right = 0;
  double tokens = 0;
  for (int64_t n = 0; n < probs.size(0); ++n) {
    if (!mask[n].item<bool>()) continue;
    ++tokens;
    auto sum = torch::zeros({log_probs.size(2)}, torch::kFloat64);
    double mass = 0;
    for (const int64_t e : experts) mass += probs[n][e].item<double>();
    for (const int64_t e : experts) {
      sum += probs[n][e].item<double>() / mass * log_probs[e][n].to(torch::kFloat64).exp();
    }
    right += sum.argmax().item<int64_t>() == labels[n].item<int64_t>() ? 1 : 0;
  }
  return right / tokens;
}

TEST(MetricsReference, SubsetRetention) {
  torch::manual_seed(3);
  const auto probs = random_probs(40, 5);
  const auto log_probs = torch::log_softmax(3 * torch::randn({5, 40, 4}), 2);
  const auto labels = torch::randint(4, {40}, torch::kLong);
  const auto mask = torch::rand({40}).lt(0.7);
  const auto generator = at::detail::createCPUGenerator(1);
  const auto found = subset_retention(probs, log_probs, labels, mask, 2, generator);
  const auto by_hand = [&](const std::vector<int64_t>& experts) {
    return accuracy_by_hand(probs, log_probs, labels, mask, experts);
  };
  EXPECT_NEAR(found.all, by_hand({0, 1, 2, 3, 4}), 1e-12);
  double sum = 0;
  for (int64_t i = 0; i < 5; ++i) {
    for (int64_t j = i + 1; j < 5; ++j) sum += by_hand({i, j});
  }
  EXPECT_NEAR(found.random, sum / 10, 1e-12);
  EXPECT_EQ(found.subsets, 10);
  EXPECT_TRUE(found.exact);
  auto used = probs.index_select(0, mask.nonzero().squeeze(1)).sum(0);
  const auto order = used.argsort(0, true);
  EXPECT_NEAR(found.kept, by_hand({order[0].item<int64_t>(), order[1].item<int64_t>()}), 1e-12);
}

TEST(MetricsReference, MoreThanSixtyFourSubsetsAreDrawn) {
  torch::manual_seed(4);
  const auto retention = [](int64_t experts, int64_t keep, uint64_t seed) {
    const auto probs = random_probs(30, experts);
    const auto log_probs = torch::log_softmax(3 * torch::randn({experts, 30, 4}), 2);
    const auto labels = torch::randint(4, {30}, torch::kLong);
    const auto mask = torch::ones({30}, torch::kBool);
    auto generator = at::detail::createCPUGenerator(seed);
    const auto out = subset_retention(probs, log_probs, labels, mask, keep, generator);
    if (out.exact) return out;
    auto again = at::detail::createCPUGenerator(seed);
    double sum = 0;
    for (int i = 0; i < 64; ++i) {
      const auto order = torch::randperm(experts, again, torch::kLong).slice(0, 0, keep);
      const std::vector<int64_t> subset(order.data_ptr<int64_t>(),
                                        order.data_ptr<int64_t>() + keep);
      sum += accuracy_by_hand(probs, log_probs, labels, mask, subset);
    }
    EXPECT_NEAR(out.random, sum / 64, 1e-12);
    return out;
  };
  EXPECT_TRUE(retention(64, 1, 1).exact);  // 64 subsets
  EXPECT_EQ(retention(64, 63, 1).subsets, 64);
  EXPECT_TRUE(retention(7, 3, 1).exact);   // 35
  EXPECT_FALSE(retention(8, 4, 1).exact);  // 70
  EXPECT_EQ(retention(8, 4, 2).subsets, 64);
  EXPECT_FALSE(retention(65, 1, 3).exact);
  EXPECT_EQ(retention(6, 6, 1).subsets, 1);
}

TEST(MetricsReference, BiasedCka) {
  torch::manual_seed(5);
  const auto outputs = torch::randn({3, 7, 4}, torch::kFloat64);
  const auto found = linear_cka(outputs, CkaEstimator::kBiased);
  const auto centred = outputs - outputs.mean(1, true);
  const auto cross = [&](int64_t i, int64_t j) {
    return centred[i].t().matmul(centred[j]).square().sum().item<double>();
  };
  for (int64_t i = 0; i < 3; ++i) {
    for (int64_t j = 0; j < 3; ++j) {
      EXPECT_NEAR(found[i][j].item<double>(), cross(i, j) / std::sqrt(cross(i, i) * cross(j, j)),
                  1e-12);
    }
  }
  const auto drawn = [&](uint64_t seed) {
    return linear_cka_baseline(outputs, CkaEstimator::kBiased,
                               at::detail::createCPUGenerator(seed));
  };
  EXPECT_EQ(drawn(1), drawn(1));
  EXPECT_NE(drawn(1), drawn(2));
  // Two tokens are enough for the biased one, four for the other.
  const auto of = [&](int64_t tokens, CkaEstimator estimator) {
    return torch::isnan(linear_cka(outputs.slice(1, 0, tokens), estimator)).any().item<bool>();
  };
  EXPECT_TRUE(of(1, CkaEstimator::kBiased));
  EXPECT_FALSE(of(2, CkaEstimator::kBiased));
  EXPECT_TRUE(of(3, CkaEstimator::kUnbiased));
  EXPECT_FALSE(of(4, CkaEstimator::kUnbiased));
}

TEST(MetricsReference, Cosines) {
  torch::manual_seed(6);
  const auto weights = torch::randn({3, 2, 4});
  const auto found = weight_cosine(weights);
  const auto outputs = torch::randn({3, 5, 4});
  const auto of_outputs = output_cosine(outputs);
  for (int64_t i = 0; i < 3; ++i) {
    for (int64_t j = 0; j < 3; ++j) {
      const auto a = weights[i].flatten().to(torch::kFloat64);
      const auto b = weights[j].flatten().to(torch::kFloat64);
      EXPECT_NEAR(found[i][j].item<double>(), (a.dot(b) / (a.norm() * b.norm())).item<double>(),
                  1e-12);
      double sum = 0;
      for (int64_t n = 0; n < 5; ++n) {
        const auto x = outputs[i][n].to(torch::kFloat64);
        const auto y = outputs[j][n].to(torch::kFloat64);
        sum += (x.dot(y) / (x.norm() * y.norm())).item<double>();
      }
      EXPECT_NEAR(of_outputs[i][j].item<double>(), sum / 5, 1e-12);
    }
  }
  auto square = torch::tensor({{9.0, 1.0, 2.0}, {3.0, 9.0, 4.0}, {5.0, 7.0, 9.0}});
  EXPECT_NEAR(mean_off_diagonal(square).value, 22 / 6., 1e-6);
  square[2][0] = std::nan("");
  const auto mean = mean_off_diagonal(square);
  EXPECT_NEAR(mean.value, 17 / 5., 1e-6);
  EXPECT_EQ(mean.counted, 5);
  EXPECT_EQ(mean.left_out, 1);
}

TEST(MetricsReference, AlignmentTakesTheLargestFilterOfEitherSign) {
  const auto directions = torch::eye(3);
  const auto weights = torch::tensor(
      {{{1.0F, -5.0F, 0.5F}, {2.0F, 3.0F, -0.25F}}, {{-1.0F, 1.0F, 1.0F}, {0.0F, 0.0F, -4.0F}}});
  EXPECT_TRUE(torch::equal(alignment(weights, directions),
                           torch::tensor({{2.0, 5.0, 0.5}, {1.0, 1.0, 4.0}}, torch::kFloat64)));
  const auto used = torch::tensor({true, false, true, true});
  const auto first = torch::tensor({{2.0, 1.0}, {9.0, 9.0}, {3.0, 6.0}, {1.0, 4.0}});
  const auto second = torch::tensor({{-1.0, 0.5}, {9.0, 9.0}, {1.0, 2.0}, {0.5, 0.25}});
  EXPECT_NEAR(alignment_ratio(first, second, used), 3, 1e-12);  // the median of 2, 3 and 8
  EXPECT_EQ(directions_covered(first, used), 2);
  EXPECT_EQ(directions_covered(first.slice(0, 1), used.slice(0, 1)), 1);
  EXPECT_EQ(alignment_ratio(first, second, torch::zeros({4}, torch::kBool)), 0);
  EXPECT_EQ(directions_covered(first, torch::zeros({4}, torch::kBool)), 0);
}

TEST(MetricsReference, Continual) {
  AccuracyMatrix a;
  a.before = {0.1, 0.2, 0.3, 0.4};
  a.rows = {
      {0.9, 0.25, 0.35, 0.45}, {0.8, 0.7, 0.5, 0.5}, {0.6, 0.75, 0.8, 0.3}, {0.5, 0.6, 0.9, 0.7}};
  EXPECT_NEAR(transfer(a), (0.25 + (0.35 + 0.5) / 2 + (0.45 + 0.5 + 0.3) / 3) / 3, 1e-12);
  EXPECT_NEAR(average(a), (1.95 + 2.5 + 2.45 + 2.7) / 16, 1e-12);
  EXPECT_NEAR(last(a), 2.7 / 4, 1e-12);
  const double backward = (0.5 - 0.9) + (0.6 - 0.7) + (0.9 - 0.8);
  EXPECT_NEAR(backward_transfer(a, Denominator::kTasks), backward / 4, 1e-12);
  EXPECT_NEAR(backward_transfer(a, Denominator::kTasksLessOne), backward / 3, 1e-12);
  const double forward = (0.25 - 0.2) + (0.5 - 0.3) + (0.3 - 0.4);
  EXPECT_NEAR(forward_transfer(a, Denominator::kTasksLessOne), forward / 3, 1e-12);
  const double before = (0.9 - 0.5) + (0.75 - 0.6) + (0.8 - 0.9);
  EXPECT_NEAR(forgetting(a, BestOf::kSinceLearnt, Denominator::kTasksLessOne), before / 3, 1e-12);
  const double ever = (0.9 - 0.5) + (0.75 - 0.6) + (0.9 - 0.9);
  EXPECT_NEAR(forgetting(a, BestOf::kAll, Denominator::kTasks), ever / 4, 1e-12);
}

TEST(MetricsReference, SpecializationOfALayerAsBefore) {
  torch::manual_seed(7);
  LayerTrace layer;
  layer.name = "moe";
  layer.probs = torch::tensor({{0.5, 0.25, 0.125, 0.125},
                               {0.125, 0.5, 0.25, 0.125},
                               {0.25, 0.625, 0.125, 0.0},
                               {0.125, 0.0, 0.125, 0.75},
                               {0.75, 0.125, 0.0625, 0.0625}},
                              torch::kFloat64);
  layer.token = whole({0, 0, 1, 1, 2, 2, 3, 3, 4, 4});
  layer.expert = whole({0, 1, 1, 2, 1, 0, 3, 0, 0, 1});
  RoutingTrace trace;
  trace.labels = {{"label", whole({0, 1, 2, 2, 0})},
                  {"predicted", whole({0, 1, 0, 2, 2})},
                  {"selected", whole({0, 0, 1, 2, 0})},
                  {"cluster", whole({3, 1, 3, 0, 3})}};
  std::string text;
  for (const bool hard : {false, true}) {
    auto summary = specialization_summary(layer, trace, 3, hard);
    // Sums of logarithms differ in the last digits from one machine to another.
    const std::function<void(Json&)> round = [&](Json& value) {
      if (value.is_number_float()) {
        value = std::round(value.get<double>() * 1e9) / 1e9;
      } else if (value.is_structured()) {
        for (auto& part : value) round(part);
      }
    };
    round(summary);
    text += summary.dump(1) + "\n";
  }
  expect_file("metrics/expected/specialization.json", text);
}

}  // namespace
}  // namespace moekit::metrics
