#include <gtest/gtest.h>
#include <torch/torch.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <set>

#include "moekit/core/error.h"
#include "moekit/nn/initialization.h"
#include "moekit/tasks/federated/attacks/label_permutation.h"
#include "moekit/tasks/federated/attacks/random_model.h"
#include "moekit/tasks/federated/attacks/sign_flip.h"
#include "moekit/tasks/federated/attacks/stale_model.h"
#include "moekit/tasks/federated/federation.h"
#include "moekit/tasks/federated/local_training.h"
#include "moekit/tasks/federated/splits/dirichlet_split.h"
#include "moekit/tasks/federated/user_data.h"
#include "moekit/tensor/generator.h"

namespace moekit::federated {
namespace {

const nn::MlpExpertsOptions kNet = nn::MlpExpertsOptions(4, 3, 1).output_size(2);
const data::Normalization kPlain{{0}, {1}};

merge::WeightSet drawn(uint64_t seed) {
  return RandomModel(AttackerOptions{}).weights({{}, {}, kNet, seed});
}

data::ImageSet images(int64_t count) {
  data::ImageSet set;
  set.images = torch::empty({count, 1, 2, 2}).normal_(0, 1, tensor::make_generator(4));
  set.labels = set.images.flatten(1).sum(1).gt(0).to(torch::kLong);
  return set;
}

bool same(const merge::WeightSet& a, const merge::WeightSet& b) {
  for (size_t t = 0; t < a.size(); ++t) {
    if (!torch::equal(a[t].second, b[t].second)) return false;
  }
  return a.size() == b.size();
}

std::vector<int64_t> range(int64_t begin, int64_t end) {
  std::vector<int64_t> out;
  for (int64_t i = begin; i < end; ++i) out.push_back(i);
  return out;
}

/// Learners of sizes that end at different steps, the last batch of one short.
std::vector<Learner> learners() {
  return {{drawn(1), range(0, 7), 11},
          {drawn(2), range(7, 40), 12},
          {drawn(1), range(40, 61), 13},
          {drawn(3), range(61, 62), 14}};
}

TEST(TrainLearners, NobodyDependsOnWhoElseTrainsNorOnTheirOrder) {
  const auto set = images(62);
  const auto all = learners();
  const LocalOptions options{0.1, 5, 2};
  const auto together = train_learners(set, kPlain, all, kNet, options);
  const auto turned = train_learners(set, kPlain, {all[3], all[2], all[0], all[1]}, kNet, options);
  const size_t place[] = {2, 3, 1, 0};
  for (size_t k = 0; k < all.size(); ++k) {
    const auto alone = train_learners(set, kPlain, {all[k]}, kNet, options);
    EXPECT_TRUE(same(together[k].weights, alone[0].weights)) << k;
    EXPECT_EQ(together[k].loss, alone[0].loss);
    EXPECT_TRUE(same(together[k].weights, turned[place[k]].weights)) << k;
    EXPECT_FALSE(same(together[k].weights, all[k].start)) << k;
  }
  for (const int64_t threads : {2, 3, 9}) {
    auto shared = options;
    shared.threads = threads;
    const auto by_threads = train_learners(set, kPlain, all, kNet, shared);
    for (size_t k = 0; k < all.size(); ++k) {
      EXPECT_TRUE(same(together[k].weights, by_threads[k].weights)) << k << ", " << threads;
      EXPECT_EQ(together[k].loss, by_threads[k].loss);
    }
  }
}

TEST(TrainLearners, IsPlainGradientDescentOnTheMeanOfABatch) {
  // One batch of all samples, one step: w - lr dL/dw, by central differences.
  const auto set = images(6);
  const Learner learner{drawn(5), range(0, 6), 1};
  const auto after = train_learners(set, kPlain, {learner}, kNet, {0.5, 6, 1});
  const auto pixels = set.images.flatten(1);
  EXPECT_NEAR(after[0].loss, judge(learner.start, kNet, pixels, set.labels).loss, 1e-6);
  for (size_t t = 0; t < learner.start.size(); ++t) {
    auto flat = learner.start[t].second.view({-1});
    for (int64_t i = 0; i < flat.numel(); ++i) {
      const float before = flat[i].item<float>();
      constexpr float kStep = 1e-2F;
      flat[i] = before + kStep;
      const double up = judge(learner.start, kNet, pixels, set.labels).loss;
      flat[i] = before - kStep;
      const double down = judge(learner.start, kNet, pixels, set.labels).loss;
      flat[i] = before;
      const double slope = (before - after[0].weights[t].second.view({-1})[i].item<double>()) / 0.5;
      EXPECT_NEAR(slope, (up - down) / (2 * kStep), 2e-3) << learner.start[t].first << " " << i;
    }
  }
}

TEST(TrainLearners, AnEpochTakesEverySampleOnce) {
  // With a tiny step the weights move by the sum over batches of the mean gradient: of batches of
  // one, the sum over samples, whatever the order.
  const auto set = images(9);
  const auto first = train_learners(set, kPlain, {{drawn(5), range(0, 9), 1}}, kNet, {1e-4, 1, 1});
  const auto second = train_learners(set, kPlain, {{drawn(5), range(0, 9), 2}}, kNet, {1e-4, 1, 1});
  EXPECT_FALSE(same(first[0].weights, second[0].weights));
  for (size_t t = 0; t < first[0].weights.size(); ++t) {
    EXPECT_LT((first[0].weights[t].second - second[0].weights[t].second).abs().max().item<float>(),
              2e-6);
  }
  EXPECT_TRUE(train_learners(set, kPlain, {}, kNet, {}).empty());
  EXPECT_THROW(train_learners(set, kPlain, {{drawn(5), {}, 1}}, kNet, {}), ArgumentError);
}

TEST(Federation, RemembersTheGlobalWeightsOfSomeRoundsAgo) {
  Federation federation(kNet, 2, tensor::make_generator(9));
  std::vector<merge::WeightSet> globals;
  for (int64_t round = 0; round < 6; ++round) {
    merge::WeightSet now;
    for (const auto& [name, tensor] : federation.global()) now.emplace_back(name, tensor.clone());
    globals.push_back(now);
    EXPECT_TRUE(
        same(federation.past(round), globals[static_cast<size_t>(std::max<int64_t>(0, round - 2))]))
        << round;
    federation.move_on(round, drawn(static_cast<uint64_t>(100 + round)), drawn(7));
  }
  EXPECT_TRUE(same(federation.control(), drawn(7)));
  EXPECT_TRUE(Federation(kNet, 0, tensor::make_generator(9)).past(3).empty());
}

TEST(Attacks, ReturnWhatTheirNamesSay) {
  const AttackRound round{drawn(1), drawn(2), kNet, 3};
  const auto flipped = SignFlip(AttackerOptions{}).weights(round);
  EXPECT_TRUE(torch::equal(flipped[0].second, -round.current[0].second));
  EXPECT_TRUE(torch::equal(flipped[3].second, -round.current[3].second));
  EXPECT_TRUE(same(RandomModel(AttackerOptions{}).weights(round), drawn(3)));
  EXPECT_FALSE(same(drawn(3), drawn(4)));
  EXPECT_LE(drawn(3)[0].second.abs().max().item<float>(), 0.5);  // 1/sqrt(4)
  StaleModelOptions stale;
  EXPECT_TRUE(same(StaleModel(stale).weights(round), round.past));
}

TEST(Attacks, LabelsAreExchangedForOthers) {
  data::ImageSet set;
  set.labels = torch::arange(10, torch::kLong).repeat({3});
  const auto before = set.labels.clone();
  LabelPermutationOptions options;
  options.classes = 0.35;  // three classes of ten
  LabelPermutation(options).poison(set, 10, 1);
  EXPECT_EQ(set.labels.ne(before).sum().item<int64_t>(), 9);
  EXPECT_TRUE(torch::equal(torch::bincount(set.labels), torch::bincount(before)));
  options.classes = 1;
  LabelPermutation(options).poison(set, 10, 2);
  options.classes = 0.1;
  EXPECT_THROW(LabelPermutation(options).poison(set, 10, 1), ArgumentError);
}

TEST(Attacks, NoiseIsTruncatedToAByte) {
  auto bytes = torch::full({50, 1, 8, 8}, 250, torch::kUInt8);
  add_byte_noise(bytes, 9, 1, "key");
  // 250..255 and, beyond, 0..3: ten values of equal chance.
  const auto counts = torch::bincount(bytes.flatten().to(torch::kLong), {}, 256);
  EXPECT_EQ(counts.gt(0).sum().item<int64_t>(), 10);
  EXPECT_GT(counts[3].item<int64_t>(), 0);
  EXPECT_EQ(counts[4].item<int64_t>(), 0);
  auto numbers = torch::zeros({2, 1, 2, 2});
  EXPECT_THROW(add_byte_noise(numbers, 9, 1, "attack.pure"), ArgumentError);
}

std::vector<std::vector<int64_t>> deal(const std::string& kind, int64_t samples, int64_t users) {
  const auto labels = torch::arange(samples, torch::kLong).remainder(10);
  return Choice<SplitKinds>(kind).make(SplitSite{})->deal(labels, 10, users, 5);
}

TEST(Splits, GiveEverySampleToOneUser) {
  for (const char* kind : {"iid", "shards", "dirichlet"}) {
    const auto dealt = deal(kind, 1003, 20);
    ASSERT_EQ(dealt.size(), 20U);
    std::set<int64_t> seen;
    for (const auto& own : dealt) seen.insert(own.begin(), own.end());
    EXPECT_EQ(seen.size(), 1003U) << kind;
    size_t sum = 0;
    for (const auto& own : dealt) sum += own.size();
    EXPECT_EQ(sum, 1003U) << kind;
  }
}

TEST(Splits, ASmallAlphaGivesEachClassToOneUser) {
  // Gamma variables of 1e-6 are below what a double holds: their shares must not come out even.
  const auto labels = torch::arange(1000, torch::kLong).remainder(10);
  for (const double alpha : {1e-6, 1e-9}) {
    DirichletSplitOptions options;
    options.alpha = alpha;
    std::map<int64_t, std::set<size_t>> users;  // of each class
    const auto dealt = make_dirichlet_split(options, {})->deal(labels, 10, 20, 5);
    for (size_t user = 0; user < dealt.size(); ++user) {
      for (const int64_t sample : dealt[user]) users[sample % 10].insert(user);
    }
    std::set<size_t> any;
    for (const auto& [label, of_class] : users) {
      EXPECT_EQ(of_class.size(), 1U) << alpha;
      any.insert(of_class.begin(), of_class.end());
    }
    EXPECT_GT(any.size(), 1U) << alpha;
  }
}

TEST(Splits, ShardsHoldFewClasses) {
  for (const auto& own : deal("shards", 1000, 25)) {  // shards of 20, two of a class of 100 a user
    std::set<int64_t> classes;
    for (const int64_t sample : own) classes.insert(sample % 10);
    EXPECT_LE(classes.size(), 2U);
    EXPECT_EQ(own.size(), 40U);
  }
  for (const auto& own : deal("iid", 1000, 25)) {
    std::set<int64_t> classes;
    for (const int64_t sample : own) classes.insert(sample % 10);
    EXPECT_GE(classes.size(), 6U);
  }
}

/// A data set of bytes with a pixel that tells the sample.
data::ImageDataset bytes() {
  data::ImageDataset set;
  set.name = "bytes";
  set.train.images = torch::arange(200, torch::kLong)
                         .to(torch::kUInt8)
                         .reshape({200, 1, 1, 1})
                         .repeat({1, 1, 2, 2});
  set.train.labels = torch::arange(200, torch::kLong).remainder(2);
  set.test = set.train.slice(0, 10);
  set.class_names = {"a", "b"};
  set.normalization = {{0}, {1}};
  return set;
}

TEST(UserData, OnlyTheSharesOfAttackersAreNoisyAndOnlyIfNotPure) {
  Config config;
  config.users = 10;
  config.per_round = 5;
  AttackerOptions options;
  options.attackers = 3;
  const auto clean = make_user_data(config, bytes(), SignFlip(options));
  options.pure = false;
  const auto noisy = make_user_data(config, bytes(), SignFlip(options));
  EXPECT_EQ(std::count(clean.attacks.begin(), clean.attacks.end(), true), 3);
  EXPECT_EQ(clean.attacks, noisy.attacks);
  EXPECT_TRUE(torch::equal(clean.train.images, noisy.train.images));
  ASSERT_EQ(clean.shared.size(), 30);  // 15 % of 20 samples each
  for (int64_t i = 0; i < 30; ++i) {
    const bool attacker = clean.attacks[static_cast<size_t>(i / 3)];
    EXPECT_EQ(!torch::equal(clean.shared.images[i], noisy.shared.images[i]), attacker) << i;
    // A copy of one of the user's own samples.
    const auto own = clean.train.slice(20 * (i / 3), 20 * (i / 3) + 20);
    EXPECT_TRUE(own.images.eq(clean.shared.images[i]).flatten(1).all(1).any().item<bool>());
  }
}

TEST(UserData, PoisonedLabelsStayOutOfTheShares) {
  Config config;
  config.users = 10;
  LabelPermutationOptions options;
  options.attackers = 4;
  const auto data = make_user_data(config, bytes(), LabelPermutation(options));
  const auto truth = [](const data::ImageSet& set) {
    return set.images.select(3, 0).select(2, 0).select(1, 0).to(torch::kLong).remainder(2);
  };
  EXPECT_TRUE(torch::equal(data.shared.labels, truth(data.shared)));
  for (int64_t user = 0; user < 10; ++user) {
    const auto own = data.train.slice(20 * user, 20 * user + 20);
    const auto wrong = own.labels.ne(truth(own)).sum().item<int64_t>();
    EXPECT_EQ(wrong, data.attacks[static_cast<size_t>(user)] ? 20 : 0);
  }
  EXPECT_TRUE(torch::equal(data.test.labels, truth(data.test)));
}

}  // namespace
}  // namespace moekit::federated
