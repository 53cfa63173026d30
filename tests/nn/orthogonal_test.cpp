#include "moekit/nn/orthogonal.h"

#include <gtest/gtest.h>
#include <torch/autograd.h>

#include <cmath>

#include "moekit/core/error.h"
#include "moekit/tensor/generator.h"

namespace moekit::nn {
namespace {

torch::Tensor random_vectors(at::IntArrayRef sizes, uint64_t seed) {
  return torch::empty(sizes, torch::kFloat64).normal_(0, 1, tensor::make_generator(seed));
}

TEST(Orthogonalize, GivesAnOrthonormalBasisForEveryToken) {
  for (const auto& sizes : std::vector<std::vector<int64_t>>{{7, 3, 10}, {5, 4, 4}, {3, 1, 6}}) {
    const auto u = random_vectors(sizes, 1);
    for (const auto type : {torch::kFloat64, torch::kFloat32}) {
      const auto v = orthogonalize(u.to(type), OrthogonalSize::kUnit);
      EXPECT_EQ(v.scalar_type(), type);
      const auto gram = torch::bmm(v, v.transpose(1, 2)).to(torch::kFloat64);
      const auto off = (gram - torch::eye(sizes[1], torch::kFloat64)).abs().max().item<double>();
      EXPECT_LT(off, type == torch::kFloat64 ? 1e-12 : 1e-5);
    }
    EXPECT_LT(mean_cosine(orthogonalize(u.to(torch::kFloat32))), 1e-5);
  }
}

TEST(Orthogonalize, IsTheFormulaByHand) {
  // u1 = (2, 0), u2 = (3, 4): v2 = (0, 4).
  const auto u = torch::tensor({{{2.0, 0.0}, {3.0, 4.0}}}, torch::kFloat64);
  const auto want = [&](OrthogonalSize size, double a, double b) {
    const auto v = orthogonalize(u, size);
    EXPECT_TRUE(torch::allclose(v, torch::tensor({{{a, 0.0}, {0.0, b}}}, torch::kFloat64))) << v;
  };
  want(OrthogonalSize::kKeep, 2, 4);
  want(OrthogonalSize::kUnit, 1, 1);
  want(OrthogonalSize::kRestore, 2, 5);
}

TEST(Orthogonalize, LeavesTheFirstAloneAndOneToTheBit) {
  const auto u = random_vectors({4, 3, 8}, 2).to(torch::kFloat32);
  EXPECT_TRUE(orthogonalize(u).select(1, 0).equal(u.select(1, 0)));
  const auto one = u.narrow(1, 0, 1);
  EXPECT_TRUE(orthogonalize(one).equal(one));
}

TEST(Orthogonalize, MakesZerosOfWhatIsRounding) {
  auto u = random_vectors({3, 3, 8}, 3).to(torch::kFloat32);
  u.select(1, 1).copy_(2 * u.select(1, 0));                      // the same direction
  u.select(1, 2).copy_(u.select(1, 0) + 1e-5 * u.select(1, 2));  // all but
  u[2].zero_();                                                  // no direction at all
  for (const auto size : {OrthogonalSize::kKeep, OrthogonalSize::kUnit, OrthogonalSize::kRestore}) {
    const auto at = u.clone().requires_grad_();
    const auto v = orthogonalize(at, size);
    EXPECT_EQ(v.narrow(1, 1, 2).abs().max().item<double>(), 0);
    EXPECT_EQ(v[2].abs().max().item<double>(), 0);
    EXPECT_TRUE(torch::isfinite(v).all().item<bool>());
    v.sum().backward();
    EXPECT_TRUE(torch::isfinite(at.grad()).all().item<bool>());
  }
}

TEST(Orthogonalize, ZerosHaveAGradient) {
  // As low-rank experts begin: the first is there, the second is zeros, or both are.
  auto u = torch::zeros({2, 2, 3});
  u[1][0][0] = 2;
  u.requires_grad_();
  orthogonalize(u).sum().backward();
  EXPECT_TRUE(u.grad()[0].eq(1).all().item<bool>());
  // Of the second what lies along the first one is taken off.
  EXPECT_TRUE(u.grad()[1][1].equal(torch::tensor({0.0F, 1.0F, 1.0F})));
}

TEST(Orthogonalize, HasTheGradientOfFiniteDifferences) {
  const auto at = random_vectors({2, 3, 5}, 4);
  const auto pull = random_vectors({2, 3, 5}, 5);
  const auto direction = random_vectors({2, 3, 5}, 6);
  for (const auto size : {OrthogonalSize::kKeep, OrthogonalSize::kUnit, OrthogonalSize::kRestore}) {
    const auto loss = [&](const torch::Tensor& u) { return (orthogonalize(u, size) * pull).sum(); };
    const auto point = at.clone().requires_grad_();
    loss(point).backward();
    const double h = 1e-6;
    const double want =
        (loss(at + h * direction) - loss(at - h * direction)).item<double>() / (2 * h);
    EXPECT_NEAR((point.grad() * direction).sum().item<double>(), want, 1e-6 * std::fabs(want));
  }
}

TEST(Orthogonalize, RefusesMoreVectorsThanDimensions) {
  EXPECT_THROW(orthogonalize(torch::zeros({2, 4, 3})), ArgumentError);
  EXPECT_THROW(orthogonalize(torch::zeros({4, 3})), ArgumentError);
}

TEST(MeanCosine, IsOverPairsOfVectorsThatAreThere) {
  // Token 0: 0 and 45 degrees and a vector of zeros; token 1: opposite ones, |cos| = 1.
  const auto u =
      torch::tensor({{{1.0, 0.0}, {1.0, 1.0}, {0.0, 0.0}}, {{0.0, 2.0}, {0.0, -3.0}, {0.0, 0.0}}});
  EXPECT_NEAR(mean_cosine(u), (std::sqrt(0.5) + 1) / 2, 1e-6);
  EXPECT_EQ(mean_cosine(torch::zeros({3, 2, 4})), 0);
  EXPECT_EQ(mean_cosine(torch::ones({3, 1, 4})), 0);
}

TEST(Orthogonalize, TakesAThousandthOfAVectorForRounding) {
  for (const auto& [share, kept] : {std::pair{2e-3, true}, {5e-4, false}}) {
    const auto u =
        torch::tensor({{{1.0, 0.0, 0.0}, {1.0, share, 0.0}, {0.0, 0.0, 2.0}}}, torch::kFloat64);
    const auto v = orthogonalize(u);
    EXPECT_NEAR(v[0][1][1].item<double>(), kept ? share : 0, 1e-12);
    EXPECT_EQ(v[0][1][0].item<double>(), 0);
    EXPECT_EQ(v[0][2][2].item<double>(), 2);
    EXPECT_NEAR(orthogonalize(u, OrthogonalSize::kUnit)[0][1][1].item<double>(), kept ? 1 : 0,
                1e-9);
  }
}

TEST(Orthogonalize, HasSizesOfSmallVectorsAndLeavesSmallerOnes) {
  // Squares of 1e-28 are sizes, those of 1e-32 are zeros'.
  const auto u =
      torch::tensor({{{1e-14, 0.0}, {0.0, 1e-14}}, {{1e-16, 0.0}, {0.0, 1e-16}}}, torch::kFloat64);
  const auto unit = orthogonalize(u, OrthogonalSize::kUnit);
  EXPECT_TRUE(torch::allclose(unit[0], torch::eye(2, torch::kFloat64)));
  EXPECT_TRUE(torch::equal(unit[1], u[1]));
  EXPECT_TRUE(torch::allclose(orthogonalize(u, OrthogonalSize::kRestore), u, 1e-9, 1e-25));
}

TEST(Orthogonalize, GivesTheTypeItTookAndComputesInFloat) {
  const auto u = random_vectors({4, 3, 9}, 8).to(torch::kBFloat16);
  for (const auto size : {OrthogonalSize::kKeep, OrthogonalSize::kUnit, OrthogonalSize::kRestore}) {
    const auto v = orthogonalize(u, size);
    EXPECT_EQ(v.scalar_type(), torch::kBFloat16);
    EXPECT_TRUE(torch::equal(v, orthogonalize(u.to(torch::kFloat32), size).to(torch::kBFloat16)));
  }
}

TEST(Orthogonalize, IsGramSchmidtInOrder) {
  const auto u = random_vectors({2, 4, 6}, 9);
  const auto keep = orthogonalize(u);
  const auto restore = orthogonalize(u, OrthogonalSize::kRestore);
  for (int64_t n = 0; n < 2; ++n) {
    std::vector<torch::Tensor> basis;
    for (int64_t i = 0; i < 4; ++i) {
      auto v = u[n][i].clone();
      for (const auto& b : basis) v = v - b.dot(u[n][i]) * b;
      EXPECT_TRUE(torch::allclose(keep[n][i], v, 1e-9, 1e-10)) << i;
      EXPECT_TRUE(torch::allclose(restore[n][i], v / v.norm() * u[n][i].norm(), 1e-9, 1e-10)) << i;
      basis.push_back(v / v.norm());
    }
  }
}

TEST(MeanCosine, IsThePlainLoopOverPairs) {
  auto u = random_vectors({3, 4, 5}, 10);
  u[1][2].zero_();
  double sum = 0;
  int64_t count = 0;
  for (int64_t n = 0; n < 3; ++n) {
    for (int64_t i = 0; i < 4; ++i) {
      for (int64_t j = i + 1; j < 4; ++j) {
        if (n == 1 && (i == 2 || j == 2)) continue;
        const double product = u[n][i].dot(u[n][j]).item<double>();
        sum += std::fabs(product / (u[n][i].norm() * u[n][j].norm()).item<double>());
        ++count;
      }
    }
  }
  EXPECT_NEAR(mean_cosine(u), sum / static_cast<double>(count), 1e-12);
}

}  // namespace
}  // namespace moekit::nn
