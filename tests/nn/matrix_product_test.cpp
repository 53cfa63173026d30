#include "moekit/nn/matrix_product.h"

#include <gtest/gtest.h>
#include <torch/autograd.h>

#include <cmath>

#include "moekit/core/error.h"
#include "moekit/nn/experts/matrix_product_experts.h"
#include "moekit/nn/frozen_experts.h"
#include "moekit/nn/moe_layer.h"
#include "moekit/nn/routers/linear_router.h"
#include "moekit/nn/upcycle.h"
#include "moekit/tensor/generator.h"

namespace moekit::nn {
namespace {

torch::Tensor random_matrix(at::IntArrayRef sizes, uint64_t seed) {
  return torch::empty(sizes, torch::kFloat64).normal_(0, 1, tensor::make_generator(seed));
}

/// ||a - b|| / ||b||
double relative(const torch::Tensor& a, const torch::Tensor& b) {
  return ((a - b).norm() / b.norm()).item<double>();
}

const ProductShape kSmall{{2, 4, 8, 2, 2}, {2, 2, 4, 2, 2}};  // 256 x 64

TEST(MatrixProduct, HasThePapersSizes) {
  // 3072 x 768 of the released code: bonds and numbers worked out by the formula.
  const ProductShape base{{4, 4, 8, 6, 4}, {3, 4, 4, 4, 4}};
  EXPECT_EQ(bonds_of(base), (std::vector<int64_t>{1, 12, 192, 384, 16, 1}));
  EXPECT_EQ(size_of(base).central, 2'359'296);
  EXPECT_EQ(size_of(base).auxiliary, 144 + 36'864 + 147'456 + 256);
  const ProductShape large{{4, 4, 8, 8, 4}, {4, 4, 4, 4, 4}};  // 4096 x 1024
  EXPECT_EQ(bonds_of(large), (std::vector<int64_t>{1, 16, 256, 512, 16, 1}));
  EXPECT_EQ(size_of(large).central, 4'194'304);
  EXPECT_EQ(size_of(large).auxiliary, 328'192);
  const auto small = size_of(kSmall);
  EXPECT_EQ(small.central, 16'384);
  EXPECT_EQ(small.auxiliary, 1'312);
  const auto ratio = [](const ProductSize& size, double experts) {
    const auto whole = static_cast<double>(size.central);
    return experts * whole / (whole + experts * static_cast<double>(size.auxiliary));
  };
  EXPECT_NEAR(ratio(small, 8), 4.88, 0.005);
  EXPECT_NEAR(ratio(small, 16), 7.01, 0.005);
  EXPECT_NEAR(ratio(size_of(base), 16), 7.10, 0.005);
  // Truncated: every inner bond at most 8.
  EXPECT_EQ(bonds_of(kSmall, 8), (std::vector<int64_t>{1, 4, 8, 8, 4, 1}));
}

TEST(MatrixProduct, IsExactWithoutTruncation) {
  for (const auto& shape : {kSmall, ProductShape{{3, 5, 2}, {2, 4, 3}},
                            ProductShape{{1, 1, 7, 1, 2}, {2, 1, 3, 1, 1}}}) {
    const auto matrix = random_matrix({shape.num_rows(), shape.num_columns()}, 1);
    const auto product = decompose(matrix, shape);
    const auto bonds = bonds_of(shape);
    for (size_t k = 0; k < shape.size(); ++k) {
      EXPECT_EQ(product.tensors[k].sizes(),
                (std::vector<int64_t>{bonds[k], shape.rows[k], shape.columns[k], bonds[k + 1]}));
    }
    EXPECT_LT(relative(rebuild(product.tensors), matrix), 1e-12);
    const auto single = decompose(matrix.to(torch::kFloat32), shape);
    EXPECT_EQ(single.tensors[0].scalar_type(), torch::kFloat32);
    EXPECT_LT(relative(rebuild(single.tensors).to(torch::kFloat64), matrix), 1e-5);
  }
}

TEST(MatrixProduct, PlacesEntriesByTheirFactors) {
  // M[(i1 i2 i3), (j1 j2 j3)] = a[i1, j1] b[i2, j2] c[i3, j3] is of bonds of one index.
  const auto a = random_matrix({2, 3}, 2), b = random_matrix({4, 2}, 3),
             c = random_matrix({3, 5}, 4);
  const auto as_tensor = [](const torch::Tensor& t) { return t.unsqueeze(0).unsqueeze(3); };
  const auto want = torch::kron(torch::kron(a, b), c);
  EXPECT_LT(relative(rebuild({as_tensor(a), as_tensor(b), as_tensor(c)}), want), 1e-14);
  const auto product = decompose(want, {{2, 4, 3}, {3, 2, 5}}, 1);
  EXPECT_LT(relative(rebuild(product.tensors), want), 1e-12);
}

TEST(MatrixProduct, TruncationStaysWithinItsBound) {
  const auto matrix = random_matrix({256, 64}, 5);
  const auto exact = decompose(matrix, kSmall);
  double last = 1e9;
  for (const int64_t bond : {2, 4, 8, 16}) {
    const auto product = decompose(matrix, kSmall, bond);
    const double error = (rebuild(product.tensors) - matrix).norm().item<double>();
    const double bound = truncation_bound(exact, bond);
    EXPECT_LE(error, bound * (1 + 1e-9)) << bond;
    EXPECT_GE(error, 0.3 * bound) << bond;  // a bound of use
    EXPECT_LT(bound, last);
    last = bound;
  }
  EXPECT_EQ(truncation_bound(exact, 64), 0);
  EXPECT_THROW(truncation_bound(exact, 0), ArgumentError);
}

TEST(MatrixProduct, SharesSingularValuesOutAndTakesRanksThatAreNotWhole) {
  const auto exact = decompose(random_matrix({256, 64}, 6), kSmall);
  // What lies on both sides of a bond has the singular values' roots: no tensor holds all of it.
  const auto sizes = [&](size_t k) { return exact.tensors[k].norm().item<double>(); };
  EXPECT_LT(sizes(4), 20 * sizes(0));
  EXPECT_LT(sizes(0), 20 * sizes(4));
  auto low = random_matrix({256, 2}, 7).matmul(random_matrix({2, 64}, 8));
  low.narrow(0, 100, 50).zero_();
  const auto product = decompose(low, kSmall);
  for (const auto& tensor : product.tensors) {
    EXPECT_TRUE(torch::isfinite(tensor).all().item<bool>());
  }
  EXPECT_LT(relative(rebuild(product.tensors), low), 1e-10);
  const auto none = decompose(torch::zeros({256, 64}), kSmall);
  EXPECT_EQ(rebuild(none.tensors).abs().max().item<double>(), 0);
}

TEST(MatrixProduct, StacksShareWhatIsNoStack) {
  const auto product = decompose(random_matrix({256, 64}, 9), kSmall);
  auto tensors = product.tensors;
  for (size_t k : {0U, 1U, 3U, 4U}) tensors[k] = torch::stack({tensors[k], 2 * tensors[k]});
  const auto both = rebuild(tensors);
  const auto one = rebuild(product.tensors);
  ASSERT_EQ(both.sizes(), (std::vector<int64_t>{2, 256, 64}));
  EXPECT_LT(relative(both[0], one), 1e-12);
  EXPECT_LT(relative(both[1], 16 * one), 1e-12);
}

TEST(MatrixProduct, DividesSizesWithTheLargestFactorInTheMiddle) {
  for (const int64_t size : {1, 7, 48, 96, 128, 256, 384, 2048, 4096, 97 * 8}) {
    const auto factors = balanced_factors(size, 5);
    ASSERT_EQ(factors.size(), 5U);
    int64_t product = 1;
    for (const int64_t factor : factors) {
      product *= factor;
      EXPECT_LE(factor, factors[2]) << size;
    }
    EXPECT_EQ(product, size);
  }
  EXPECT_EQ(balanced_factors(1024, 5), (std::vector<int64_t>{4, 4, 4, 4, 4}));
  EXPECT_THROW(balanced_factors(0, 5), ArgumentError);
  EXPECT_THROW(balanced_factors(8, 4), ArgumentError);
}

TEST(MatrixProduct, RefusesWhatDoesNotFit) {
  const auto matrix = torch::zeros({24, 6});
  EXPECT_THROW(decompose(matrix, {{2, 3, 4}, {1, 2, 2}}), ArgumentError);
  EXPECT_THROW(decompose(matrix.flatten(), {{2, 3, 4}, {1, 2, 3}}), ArgumentError);
  EXPECT_THROW(decompose(matrix, {{4, 6}, {2, 3}}), ArgumentError);
  EXPECT_THROW(decompose(matrix, {{4, 6, 1}, {2, 3}}), ArgumentError);
  EXPECT_THROW(decompose(matrix, {{-4, -6, 1}, {2, 3, 1}}), ArgumentError);
  EXPECT_THROW(decompose(matrix, {{2, 3, 4}, {1, 2, 3}}, -1), ArgumentError);
  EXPECT_THROW(bonds_of({{1 << 20, 1 << 20, 1}, {1, 1, 1}}), ArgumentError);
  EXPECT_THROW(rebuild({}), ArgumentError);
  EXPECT_THROW(rebuild({torch::zeros({1, 2, 2, 3}), torch::zeros({2, 2, 2, 1})}), ArgumentError);
  EXPECT_THROW(rebuild({torch::zeros({1, 2, 2, 3})}), ArgumentError);
  EXPECT_THROW(rebuild({torch::zeros({2, 1, 2, 2, 3}), torch::zeros({4, 3, 2, 2, 1})}),
               ArgumentError);
}

MatrixProductExperts product_bank(Activation activation, int64_t experts, bool bias) {
  MatrixProductOptions options;
  options.mlp = MlpExpertsOptions(16, 24, experts).activation(activation).bias(bias);
  MatrixProductExperts out(options);
  out->reset_parameters(tensor::make_generator(3));
  return out;
}

/// Moves every tensor a little, so that experts differ.
void move_all(torch::nn::Module& module) {
  const torch::NoGradGuard no_grad;
  uint64_t seed = 40;
  for (auto& p : module.parameters()) {
    p.add_(torch::empty_like(p).normal_(0, 0.05, tensor::make_generator(++seed)));
  }
}

TEST(MatrixProductExperts, AreTheNetworksTheyStandFor) {
  for (const auto activation : {Activation::kRelu, Activation::kSwiglu}) {
    auto experts = product_bank(activation, 3, true);
    move_all(*experts);
    MlpExperts plain(experts->options.mlp);
    plain->set_networks(experts->networks());
    const auto x = torch::randn({20, 16});
    const auto expert = torch::arange(20, torch::kLong) % 3;
    const auto want = forward_each(*plain, x, expert);
    EXPECT_LT(relative(forward_each(*experts, x, expert), want), 1e-5);
    EXPECT_LT(relative(experts->forward_all(x).values, plain->forward_all(x).values), 1e-5);
    const auto plan = make_plan(expert.unsqueeze(1), 3);
    EXPECT_LT(relative(experts->forward_routed(dispatch(x, plan), plan),
                       plain->forward_routed(dispatch(x, plan), plan)),
              1e-5);
    EXPECT_EQ(experts->why_not_fused(x), plain->why_not_fused(x));
    EXPECT_GT(relative(want[1], want[2]), 1e-2);  // they do differ
  }
}

TEST(MatrixProductExperts, ShareTheCentralTensorAndItsGradient) {
  auto experts = product_bank(Activation::kSwiglu, 4, false);
  const auto shared = experts->shared_parameters();
  ASSERT_EQ(shared.size(), 3U);
  ProductShape shape{balanced_factors(24, 5), balanced_factors(16, 5)};
  const auto size = size_of(shape);
  int64_t numbers = 0;
  for (const auto& p : experts->parameters()) numbers += p.numel();
  EXPECT_EQ(numbers, 3 * (size.central + 4 * size.auxiliary));
  // All experts begin as one.
  const auto networks = experts->networks();
  EXPECT_LT(relative(networks.up[3], networks.up[0]), 1e-6);
  forward_each(*experts, torch::randn({5, 16}), torch::full({5}, 2, torch::kLong))
      .square()
      .sum()
      .backward();
  for (const auto& p : experts->parameters()) {
    if (is_one_of(p, shared)) {
      EXPECT_GT(p.grad().abs().max().item<double>(), 0);
      continue;
    }
    ASSERT_EQ(p.size(0), 4);
    EXPECT_EQ(p.grad()[1].abs().max().item<double>(), 0);
    EXPECT_GT(p.grad()[2].abs().max().item<double>(), 0);
  }
  // A clone shares among its own experts, and nothing with the bank.
  const auto copy = std::dynamic_pointer_cast<MatrixProductExpertsImpl>(experts->clone());
  EXPECT_EQ(copy->shared_parameters().size(), 3U);
  EXPECT_FALSE(copy->shared_parameters()[0].is_same(shared[0]));
  EXPECT_TRUE(copy->networks().up.equal(networks.up));
}

TEST(MatrixProductExperts, KeepTheSharedTensorWhereItsFirstSizeIsTheNumberOfExperts) {
  // b_2 = 8 of [2, 2, 6, 1, 1] x [2, 1, 8, 1, 1] is the number of experts, too.
  MatrixProductOptions options;
  options.mlp = MlpExpertsOptions(16, 24, 8).activation(Activation::kRelu).bias(false);
  options.hidden_factors({2, 2, 6, 1, 1}).token_factors({2, 1, 8, 1, 1});
  MatrixProductExperts experts(options);
  ASSERT_EQ(experts->shared_parameters()[0].size(0), 8);
  EXPECT_EQ(stacked_parameters(*experts).size(), experts->parameters().size() - 2);
  for (const auto& [name, tensor] : expert_tensors(*experts, 3)) {
    EXPECT_EQ(name.find("shared"), std::string::npos);
    EXPECT_EQ(tensor.dim(), 4);
  }
  move_all(*experts);
  const auto before = experts->networks();
  ExpertEdit edit(torch::tensor({6, 1}, torch::kLong));
  experts->take_experts(edit);
  edit.commit();
  EXPECT_EQ(experts->num_experts(), 2);
  EXPECT_LT(relative(experts->networks().up, before.up.index_select(0, edit.index)), 1e-6);
}

TEST(MatrixProductExperts, AreMadeOfADenseNetwork) {
  MlpExperts dense(MlpExpertsOptions(16, 24, 1).activation(Activation::kSwiglu).bias(true));
  dense->reset_parameters(tensor::make_generator(8));
  auto experts = product_bank(Activation::kSwiglu, 4, true);
  LinearRouter router(
      LinearRouterOptions(16, 4).top_k(1).combine_weights(CombineWeights::kStraightThrough));
  upcycle(*dense, *experts, *router, UpcycleOptions(), tensor::make_generator(9));
  MoE layer(router.ptr(), experts.ptr());
  const auto x = torch::randn({50, 16});
  EXPECT_LT(relative(layer->forward(x), dense->forward_all(x).values[0]), 1e-5);
  EXPECT_THROW(upcycle(*dense, *experts, *router, UpcycleOptions().noise_share(0.5),
                       tensor::make_generator(9)),
               ArgumentError);
}

TEST(MatrixProductExperts, RefuseFactorsThatMakeUpOtherSizes) {
  LayerSite site{{16}, 4, 16};
  const auto refusal = [&](const MatrixProductOptions& options) {
    try {
      check_matrix_product_experts(options, site, "model.expert");
    } catch (const ArgumentError& error) {
      return std::string(error.what());
    }
    return std::string();
  };
  MatrixProductOptions options;
  options.mlp.intermediate_size(24);
  EXPECT_EQ(refusal(options), "");
  options.token_factors({2, 2, 2});
  EXPECT_NE(refusal(options).find("together"), std::string::npos);
  options.hidden_factors({2, 3, 4});
  EXPECT_NE(refusal(options).find("model.expert.token_factors make up 8"), std::string::npos);
  options.token_factors({2, 4, 2});
  EXPECT_EQ(refusal(options), "");
  options.hidden_factors({2, 3, 5});
  EXPECT_NE(refusal(options).find("model.expert.hidden_factors make up 30"), std::string::npos);
  options.hidden_factors({2, 3, 4, 1});
  EXPECT_NE(refusal(options).find("4 factors"), std::string::npos);
  options.hidden_factors({2, 3, 4}).mlp.weights(WeightLevels::kTernary);
  EXPECT_NE(refusal(options).find("weights"), std::string::npos);
  options.mlp.weights(WeightLevels::kFloat).init(ExpertInit::kZeroOutput);
  EXPECT_NE(refusal(options).find("model.expert.init"), std::string::npos);
  options.mlp.init(ExpertInit::kDefault);
  site.output_size = 8;
  options.mlp.weights(WeightLevels::kFloat);
  EXPECT_NE(refusal(options).find("outputs"), std::string::npos);
}

TEST(CombineWeights, StraightThroughIsOneWithTheGradientOfTheShare) {
  const auto logits = torch::randn({6, 4}, torch::kFloat64).requires_grad_();
  const auto routing = route(logits, 1, CombineWeights::kStraightThrough);
  EXPECT_TRUE(routing.weight.eq(1).all().item<bool>());
  const auto scale = torch::arange(1, 7, torch::kFloat64);
  (routing.weight * scale).sum().backward();
  const auto same = logits.detach().clone().requires_grad_();
  const auto share = torch::softmax(same, 1).gather(1, routing.expert_index).squeeze(1);
  (share / share.detach() * scale).sum().backward();
  EXPECT_LT(relative(logits.grad(), same.grad()), 1e-12);
  EXPECT_EQ(why_no_gradient(1, 4, CombineWeights::kStraightThrough), "");
  // Shares that are zeros in float.
  const auto far = torch::tensor({{0.0F, 2000.0F}}).requires_grad_();
  const auto all = route(far, 2, CombineWeights::kStraightThrough);
  EXPECT_TRUE(all.weight.eq(1).all().item<bool>());
  all.weight.sum().backward();
  EXPECT_TRUE(torch::isfinite(far.grad()).all().item<bool>());
}

TEST(MatrixProduct, TruncationBoundIsTheRootOfWhatIsLeftOut) {
  MatrixProduct product;
  product.spectra = {torch::tensor({5.0, 3.0, 4.0}), torch::tensor({7.0}),
                     torch::tensor({6.0, 2.0})};
  EXPECT_NEAR(truncation_bound(product, 1), std::sqrt(9 + 16 + 4), 1e-6);
  EXPECT_NEAR(truncation_bound(product, 2), 4, 1e-6);
  EXPECT_EQ(truncation_bound(product, 3), 0);
}

TEST(MatrixProduct, SpectraAreTheSingularValuesOfTheMatrixCutAtABond) {
  const ProductShape shape{{2, 3, 4}, {3, 1, 5}};
  const auto matrix = random_matrix({24, 15}, 12).requires_grad_();
  const auto product = decompose(matrix, shape);
  ASSERT_EQ(product.spectra.size(), 2U);
  const auto cut = matrix.detach().reshape({2, 3, 4, 3, 1, 5}).permute({0, 3, 1, 4, 2, 5});
  for (size_t k = 0; k < 2; ++k) {
    const auto want = torch::linalg_svdvals(cut.reshape({k == 0 ? 6 : 18, -1}));
    EXPECT_TRUE(torch::allclose(product.spectra[k], want, 1e-8, 1e-10)) << k;
    EXPECT_FALSE(product.spectra[k].requires_grad());
  }
  for (const auto& tensor : product.tensors) {
    EXPECT_FALSE(tensor.requires_grad());
    EXPECT_TRUE(tensor.is_contiguous());
  }
  // In the gauge, both sides of a bond have the same size for each index.
  const auto left = product.tensors[0].flatten(0, 2).square().sum(0);
  EXPECT_TRUE(torch::allclose(left, product.spectra[0], 1e-8, 1e-10));
  const auto right = product.tensors[2].flatten(1).square().sum(1);
  EXPECT_TRUE(torch::allclose(right, product.spectra[1], 1e-8, 1e-10));
}

TEST(MatrixProduct, FactorsAreTheOnesWorkedOutByHand) {
  using Factors = std::vector<int64_t>;
  EXPECT_EQ(balanced_factors(1, 3), (Factors{1, 1, 1}));
  EXPECT_EQ(balanced_factors(2, 1), (Factors{2}));
  EXPECT_EQ(balanced_factors(6, 1), (Factors{6}));
  EXPECT_EQ(balanced_factors(4, 3), (Factors{2, 2, 1}));
  EXPECT_EQ(balanced_factors(49, 3), (Factors{7, 7, 1}));
  EXPECT_EQ(balanced_factors(12, 3), (Factors{2, 3, 2}));
  EXPECT_EQ(balanced_factors(24, 3), (Factors{3, 4, 2}));
  EXPECT_EQ(balanced_factors(30, 3), (Factors{3, 5, 2}));
  EXPECT_EQ(balanced_factors(48, 5), (Factors{2, 2, 3, 2, 2}));
  EXPECT_EQ(balanced_factors(26, 3), (Factors{2, 13, 1}));
}

TEST(MatrixProduct, RebuildsAnyNumberOfTensorsWithTheirGradient) {
  // M[(i..), (j..)] entry by entry.
  const std::vector<int64_t> rows{2, 3, 1, 2, 3, 2}, columns{3, 1, 2, 2, 1, 3};
  const std::vector<int64_t> bonds{4, 2, 5, 3, 2};
  for (size_t count = 1; count <= 6; ++count) {
    std::vector<torch::Tensor> tensors;
    for (size_t k = 0; k < count; ++k) {
      tensors.push_back(random_matrix({k == 0 ? 1 : bonds[k - 1], rows[k], columns[k],
                                       k + 1 == count ? 1 : bonds[k]},
                                      20 + k)
                            .requires_grad_());
    }
    auto want = torch::ones({1, 1, 1}, torch::kFloat64);  // [I, J, b]
    for (const auto& t : tensors) {
      const auto next = torch::einsum("abk,kijl->aibjl", {want, t});
      want = next.reshape({next.size(0) * next.size(1), next.size(2) * next.size(3), -1});
    }
    const auto got = rebuild(tensors);
    ASSERT_EQ(got.sizes(), want.squeeze(2).sizes());
    EXPECT_LT(relative(got, want.squeeze(2)), 1e-12) << count;
    const auto scale = torch::randn_like(got);
    const auto a = torch::autograd::grad({(got * scale).sum()}, tensors);
    const auto b = torch::autograd::grad({(want.squeeze(2) * scale).sum()}, tensors);
    for (size_t k = 0; k < count; ++k) EXPECT_LT(relative(a[k], b[k]), 1e-12);
  }
}

TEST(MatrixProduct, CountsAllNumbersOfItsTensors) {
  const ProductShape shape{{2, 3, 4}, {3, 1, 5}};
  EXPECT_EQ(bonds_of(shape), (std::vector<int64_t>{1, 6, 18, 1}));
  EXPECT_EQ(bonds_of(shape, 6), (std::vector<int64_t>{1, 6, 6, 1}));
  EXPECT_EQ(bonds_of(shape, 1), (std::vector<int64_t>{1, 1, 1, 1}));
  EXPECT_EQ(size_of(shape, 5).central, 5 * 3 * 5);
  EXPECT_EQ(size_of(shape, 5).auxiliary, 6 * 5 + 5 * 20);
}

}  // namespace
}  // namespace moekit::nn
