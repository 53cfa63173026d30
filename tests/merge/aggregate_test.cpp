#include "moekit/merge/aggregate.h"

#include <gtest/gtest.h>
#include <torch/torch.h>

#include <limits>
#include <numeric>

#include "moekit/core/error.h"
#include "moekit/merge/aggregator_kinds.h"
#include "moekit/merge/aggregators/distance_softmax.h"
#include "moekit/merge/aggregators/krum.h"
#include "moekit/merge/aggregators/nearest.h"
#include "moekit/merge/aggregators/quadratic.h"
#include "moekit/merge/simplex.h"
#include "moekit/tensor/generator.h"

namespace moekit::merge {
namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();
constexpr double kNaN = std::numeric_limits<double>::quiet_NaN();

/// A matrix of two numbers and a bias of one.
WeightSet model(double a, double b, double bias) {
  return {{"weight", torch::tensor({{a, b}}, torch::kFloat32)},
          {"bias", torch::tensor({bias}, torch::kFloat32)}};
}

std::unique_ptr<Aggregator> method(std::string_view name) {
  return Choice<AggregatorKinds>(name).make(AggregateSite{8});
}

Aggregation join(std::string_view name, const std::vector<WeightSet>& models,
                 const WeightSet& reference = model(0, 0, 0),
                 const WeightSet& current = model(9, 9, 9)) {
  return aggregate(*method(name), models, reference, current);
}

std::vector<double> numbers_of(const WeightSet& set) {
  std::vector<double> out;
  for (const auto& [name, tensor] : set) {
    const auto flat = tensor.reshape({-1}).to(torch::kFloat64);
    for (int64_t i = 0; i < flat.numel(); ++i) out.push_back(flat[i].item<double>());
  }
  return out;
}

void expect_near(const std::vector<double>& got, const std::vector<double>& wanted,
                 double tolerance = 1e-12) {
  ASSERT_EQ(got.size(), wanted.size());
  for (size_t i = 0; i < got.size(); ++i) EXPECT_NEAR(got[i], wanted[i], tolerance) << i;
}

using Shares = std::vector<double>;

TEST(Aggregate, TheMeanIsOfAllTensorsByShares) {
  const auto out = join("average", {model(1, 2, 3), model(3, 6, -1)});
  expect_near(out.rho, {0.5, 0.5});
  expect_near(numbers_of(out.weights), {2, 4, 1});
  EXPECT_EQ(out.weights[0].first, "weight");
  EXPECT_EQ(out.weights[0].second.sizes(), torch::IntArrayRef({1, 2}));
  EXPECT_EQ(out.weights[0].second.scalar_type(), torch::kFloat32);
}

TEST(Aggregate, NearestTakesAllAndTiesShare) {
  // Squared distances to (0, 0, 0): 9, 2, 14.
  const auto out = join("nearest", {model(0, 0, 3), model(1, 1, 0), model(1, 2, 3)});
  EXPECT_EQ(out.rho, (Shares{0, 1, 0}));
  EXPECT_EQ(numbers_of(out.weights), (Shares{1, 1, 0}));
  EXPECT_EQ(join("nearest", {model(1, 0, 0), model(0, 1, 0), model(0, 2, 0)}).rho,
            (Shares{0.5, 0.5, 0}));
}

TEST(Aggregate, ACopiedBiasTakesAllUnderTheLastBiasAloneAndNothingUnderAllTensors) {
  const auto reference = model(1, 1, 0.5);
  const std::vector<WeightSet> models = {model(1.1, 1, 0.6), model(-50, 80, 0.5)};
  const Nearest by_bias(NearestOptions{Compare::kLast});
  EXPECT_EQ(aggregate(by_bias, models, reference, reference).rho, (Shares{0, 1}));
  EXPECT_EQ(join("nearest", models, reference).rho, (Shares{1, 0}));
  EXPECT_LT(join("quadratic", models, reference).rho[1], 0.01);
  EXPECT_LT(join("distance_softmax", models, reference).rho[1], 1e-4);
}

TEST(Aggregate, QuadraticFindsTheMixtureThatIsTheReference) {
  // 0.25 (4, 0, 0) + 0.75 (0, 4, 4) = (1, 3, 3); the third model is far away.
  const auto out =
      join("quadratic", {model(4, 0, 0), model(0, 4, 4), model(90, 90, -90)}, model(1, 3, 3));
  expect_near(out.rho, {0.25, 0.75, 0}, 1e-3);
  expect_near(numbers_of(out.weights), {1, 3, 3}, 1e-2);
}

TEST(LeastNormShares, AgreesWithAGridSearch) {
  const auto generator = tensor::make_generator(7);
  for (int trial = 0; trial < 20; ++trial) {
    const auto rows = torch::empty({3, 2}, torch::kFloat64).normal_(0.5, 1, generator);
    const auto products = torch::mm(rows, rows.t());
    std::vector<Shares> gram;
    for (int64_t k = 0; k < 3; ++k) {
      gram.push_back({products[k][0].item<double>(), products[k][1].item<double>(),
                      products[k][2].item<double>()});
    }
    const auto value = [&](const Shares& rho) {
      double sum = 0;
      for (size_t i = 0; i < 3; ++i) {
        for (size_t j = 0; j < 3; ++j) sum += rho[i] * gram[i][j] * rho[j];
      }
      return sum;
    };
    double best = kInfinity;
    constexpr int kGrid = 200;
    for (int a = 0; a <= kGrid; ++a) {
      for (int b = 0; a + b <= kGrid; ++b) {
        best = std::min(best, value({a / 200.0, b / 200.0, (kGrid - a - b) / 200.0}));
      }
    }
    const auto rho = least_norm_shares(gram, 2000);
    EXPECT_NEAR(std::accumulate(rho.begin(), rho.end(), 0.0), 1, 1e-12);
    EXPECT_GE(*std::min_element(rho.begin(), rho.end()), 0);
    EXPECT_LE(value(rho), best + 1e-8) << trial;
    EXPECT_GE(value(rho), best - 1e-3) << trial;  // what the grid misses
  }
}

TEST(Simplex, ProjectsAsWorkedByHand) {
  expect_near(project_to_simplex({0.2, 0.3, 0.5}), {0.2, 0.3, 0.5});
  expect_near(project_to_simplex({5}), {1});
  expect_near(project_to_simplex({-7}), {1});
  expect_near(project_to_simplex({3, 3, 3, 3}), {0.25, 0.25, 0.25, 0.25});
  expect_near(project_to_simplex({2, 0}), {1, 0});
  expect_near(project_to_simplex({1, 0.5, -3}), {0.75, 0.25, 0});
  expect_near(project_to_simplex({1e300, 0}), {1, 0});
  EXPECT_THROW(project_to_simplex({}), ArgumentError);
  EXPECT_THROW(project_to_simplex({0, kNaN}), ArgumentError);
}

TEST(Simplex, NoOtherPointIsNearer) {
  const auto generator = tensor::make_generator(3);
  for (int trial = 0; trial < 20; ++trial) {
    const auto drawn = torch::empty({4}, torch::kFloat64).normal_(0, 2, generator);
    const Shares point(drawn.data_ptr<double>(), drawn.data_ptr<double>() + 4);
    const auto nearest = project_to_simplex(point);
    EXPECT_NEAR(std::accumulate(nearest.begin(), nearest.end(), 0.0), 1, 1e-12);
    // (point - nearest) . (corner - nearest) <= 0 for every corner.
    for (size_t corner = 0; corner < 4; ++corner) {
      double product = 0;
      for (size_t i = 0; i < 4; ++i) {
        product += (point[i] - nearest[i]) * ((i == corner ? 1 : 0) - nearest[i]);
      }
      EXPECT_LE(product, 1e-12);
    }
  }
}

TEST(Aggregate, InnerProductsAreTakenTensorByTensor) {
  // Reference (3, 4 | 2). A: (<(3,4),(3,4)>/5 + 2) / 2 = 3.5, B: (0 - 2) / 2 = -1, C is A's
  // thousandfold: the same score.
  const auto out =
      join("softmax", {model(3, 4, 1), model(0, 0, -1), model(3000, 4000, 1000)}, model(3, 4, 2));
  const double b = std::exp(-4.5);
  expect_near(out.rho, {1 / (2 + b), b / (2 + b), 1 / (2 + b)}, 1e-9);
}

TEST(Aggregate, DistancesAreTakenInUnitsOfTheirMedian) {
  // d = 1, 4, 9: by exp(-5/4), exp(-5), exp(-45/4).
  const auto out = join("distance_softmax", {model(1, 0, 0), model(0, 2, 0), model(0, 0, 3)});
  const double sum = std::exp(-1.25) + std::exp(-5.0) + std::exp(-11.25);
  expect_near(out.rho, {std::exp(-1.25) / sum, std::exp(-5.0) / sum, std::exp(-11.25) / sum}, 1e-9);
  // Of two, the median lies between: d = 1, 4.
  const DistanceSoftmax mild(DistanceSoftmaxOptions{1});
  const auto two =
      aggregate(mild, {model(1, 0, 0), model(0, 2, 0)}, model(0, 0, 0), model(0, 0, 0));
  EXPECT_NEAR(two.rho[1] / two.rho[0], std::exp(-3 / 2.5), 1e-9);
  // Half of the models are the reference itself.
  EXPECT_EQ(join("distance_softmax", {model(0, 0, 0), model(0, 0, 0), model(5, 0, 0)}).rho,
            (Shares{0.5, 0.5, 0}));
}

TEST(Aggregate, MedianOfEveryNumberAndWhoseItIs) {
  const auto odd = join("median", {model(1, 5, -2), model(2, 9, 7), model(100, 7, 0)});
  EXPECT_EQ(numbers_of(odd.weights), (Shares{2, 7, 0}));
  expect_near(odd.rho, {0, 1 / 3.0, 2 / 3.0});
  // Of four the mean of the middle two.
  const auto even =
      join("median", {model(1, 1, 0), model(2, 1, 0), model(4, 1, 0), model(90, 1, 8)});
  EXPECT_EQ(numbers_of(even.weights), (Shares{3, 1, 0}));
  expect_near(even.rho, {1 / 12.0 + 1 / 9.0, 1 / 6.0 + 1 / 12.0 + 1 / 9.0,
                         1 / 6.0 + 1 / 12.0 + 1 / 9.0, 1 / 12.0});
}

TEST(Aggregate, KrumTakesTheModelAmongItsNeighbours) {
  // f = 1 of 5: two nearest others. On a line at 0, 1, 3, 4.5, 100: sums of squares
  // 1+9, 1+4, 2.25+4, 2.25+12.25, ...
  const std::vector<WeightSet> models = {model(0, 0, 0), model(1, 0, 0), model(3, 0, 0),
                                         model(4.5, 0, 0), model(100, 0, 0)};
  EXPECT_EQ(join("krum", models).rho, (Shares{0, 1, 0, 0, 0}));
  EXPECT_EQ(join("krum", {model(0, 0, 0), model(6, 0, 0)}).rho, (Shares{0.5, 0.5}));
  EXPECT_NO_THROW(check_krum({1}, {5}, "aggregation"));
  try {
    check_krum({2}, {6}, "aggregation");
    ADD_FAILURE() << "2 f + 2 = K";
  } catch (const ArgumentError& error) {
    EXPECT_NE(std::string(error.what()).find("aggregation.byzantine = 2"), std::string::npos);
  }
}

TEST(Aggregate, TheServerAloneNeedsNoUser) {
  const auto out = join("server_only", {model(1, 1, 1), model(kNaN, 1, 1)}, model(4, 5, 6));
  EXPECT_EQ(out.rho, (Shares{0, 0}));
  EXPECT_EQ(out.reference, 1);
  EXPECT_EQ(out.refused, std::vector<int64_t>{1});
  EXPECT_EQ(numbers_of(out.weights), (Shares{4, 5, 6}));
  EXPECT_EQ(numbers_of(join("server_only", {model(kNaN, 1, 1)}, model(4, 5, 6)).weights),
            (Shares{4, 5, 6}));
}

/// What holds for every method that looks at models.
class EveryMethod : public testing::TestWithParam<std::string_view> {};

TEST_P(EveryMethod, SharesSumToOneAndFollowTheModels) {
  const auto generator = tensor::make_generator(11);
  std::vector<WeightSet> models;
  for (int k = 0; k < 5; ++k) {
    const auto drawn = torch::empty({3}).normal_(0, 1, generator);
    models.push_back(
        model(drawn[0].item<double>(), drawn[1].item<double>(), drawn[2].item<double>()));
  }
  const auto reference = model(0.1, 0.2, 0.3);
  const auto before = join(GetParam(), models, reference);
  EXPECT_NEAR(std::accumulate(before.rho.begin(), before.rho.end(), 0.0), 1, 1e-12);
  const std::vector<size_t> order = {3, 0, 4, 1, 2};
  std::vector<WeightSet> exchanged;
  Shares wanted;
  for (const size_t k : order) {
    exchanged.push_back(models[k]);
    wanted.push_back(before.rho[k]);
  }
  const auto after = join(GetParam(), exchanged, reference);
  expect_near(after.rho, wanted, 1e-9);
  expect_near(numbers_of(after.weights), numbers_of(before.weights), 1e-6);
}

TEST_P(EveryMethod, RefusesWhatIsNotFinite) {
  const std::vector<WeightSet> models = {model(1, 1, kNaN), model(1, 2, 3), model(kInfinity, 0, 0),
                                         model(2, 1, 3), model(1, 1, 2)};
  const auto out = join(GetParam(), models);
  EXPECT_EQ(out.refused, (std::vector<int64_t>{0, 2}));
  const auto alone = join(GetParam(), {models[1], models[3], models[4]});
  EXPECT_EQ(out.rho, (Shares{0, alone.rho[0], 0, alone.rho[1], alone.rho[2]}));
  EXPECT_EQ(numbers_of(out.weights), numbers_of(alone.weights));
}

TEST_P(EveryMethod, KeepsTheCurrentWeightsWhereAllAreRefused) {
  const auto out = join(GetParam(), {model(kNaN, 0, 0), model(0, -kInfinity, 0)});
  EXPECT_EQ(out.rho, (Shares{0, 0}));
  EXPECT_EQ(out.refused.size(), 2U);
  EXPECT_EQ(numbers_of(out.weights), (Shares{9, 9, 9}));
}

TEST_P(EveryMethod, OneModelIsTheResultBitForBit) {
  const auto out = join(GetParam(), {model(0.1, 1e-20, -3e7)});
  EXPECT_EQ(out.rho, Shares{1});
  EXPECT_TRUE(torch::equal(out.weights[0].second, model(0.1, 1e-20, 0)[0].second));
  EXPECT_TRUE(torch::equal(out.weights[1].second, model(0, 0, -3e7)[1].second));
}

TEST_P(EveryMethod, EqualModelsShareEvenly) {
  for (const auto& reference : {model(0.3, 0.7, 0.1), model(1, 2, 3)}) {
    const auto out = join(GetParam(), {4, model(0.3, 0.7, 0.1)}, reference);
    expect_near(out.rho, {0.25, 0.25, 0.25, 0.25});
    EXPECT_EQ(numbers_of(out.weights), numbers_of(model(0.3, 0.7, 0.1)));
  }
}

INSTANTIATE_TEST_SUITE_P(All, EveryMethod,
                         testing::Values("average", "nearest", "quadratic", "softmax",
                                         "distance_softmax", "median", "krum"),
                         [](const auto& method_name) { return std::string(method_name.param); });

TEST(Aggregate, CountersAreTheServers) {
  const auto counted = [](double weight, int64_t batches) {
    return WeightSet{{"mean", torch::tensor({weight})}, {"batches", torch::tensor({batches})}};
  };
  const std::vector<WeightSet> models = {counted(1, 10), counted(3, 20)};
  const auto join_counted = [&](std::string_view name) {
    return aggregate(*method(name), models, counted(1, 7), counted(0, 5)).weights;
  };
  EXPECT_EQ(join_counted("nearest")[1].second.item<int64_t>(), 7);
  EXPECT_EQ(join_counted("nearest")[1].second.scalar_type(), torch::kLong);
  EXPECT_EQ(join_counted("average")[1].second.item<int64_t>(), 5);
  EXPECT_EQ(join_counted("average")[0].second.item<float>(), 2);
}

TEST(Aggregate, GivesTensorsOfItsOwnWithoutAGraph) {
  auto own = model(1, 2, 3);
  own[0].second.set_requires_grad(true);
  const auto out = join("nearest", {own}, model(0, 0, 0), own);
  EXPECT_FALSE(out.weights[0].second.requires_grad());
  EXPECT_NE(out.weights[0].second.data_ptr(), own[0].second.data_ptr());
  const auto kept = join("average", {model(kNaN, 0, 0)}, {}, own);
  EXPECT_NE(kept.weights[1].second.data_ptr(), own[1].second.data_ptr());
}

TEST(Aggregate, RefusesWhatDoesNotFit) {
  const auto refusal = [](const std::vector<WeightSet>& models, const WeightSet& reference) {
    try {
      join("nearest", models, reference);
    } catch (const ArgumentError& error) {
      return std::string(error.what());
    }
    return std::string();
  };
  auto renamed = model(1, 2, 3);
  renamed[1].first = "other";
  EXPECT_NE(refusal({model(1, 2, 3), renamed}, model(0, 0, 0)).find("model 1 has other"),
            std::string::npos);
  EXPECT_NE(refusal({model(1, 2, 3)}, {}).find("reference 0 has 0 tensors"), std::string::npos);
  EXPECT_NE(refusal({}, model(0, 0, 0)).find("at least one model"), std::string::npos);
  EXPECT_THROW(join("nearest", {model(1, 2, 3)}, model(0, kNaN, 0)), NumericError);
  EXPECT_NO_THROW(join("average", {model(1, 2, 3)}, model(0, kNaN, 0)));
}

}  // namespace
}  // namespace moekit::merge
