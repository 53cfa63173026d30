#include "moekit/nn/bit_linear.h"

#include <gtest/gtest.h>
#include <torch/autograd.h>

#include "moekit/core/error.h"
#include "moekit/nn/experts/mlp_experts.h"
#include "moekit/nn/packing.h"
#include "moekit/tensor/generator.h"

namespace moekit::nn {
namespace {

constexpr double kBitClose = 1e-5;

torch::Tensor normal_of(at::IntArrayRef sizes, uint64_t seed, double std = 1) {
  return torch::empty(sizes).normal_(0, std, tensor::make_generator(seed));
}

/// What codes stand for.
torch::Tensor meant_by(const Codes& codes) { return codes.values.detach() * codes.scale; }

double apart_by(const torch::Tensor& a, const torch::Tensor& b) {
  return (a - b).abs().max().item<double>() / b.abs().max().item<double>();
}

TEST(BitLinear, TernaryWeightsAreTheRoundedRatio) {
  // gamma = (3 + 1 + 0.4 + 0.2) / 4 = 1.15: 2.6, -0.87, 0.35 and 0.17 become 1, -1, 0, 0.
  const auto codes =
      weight_codes(torch::tensor({3.0F, -1.0F, 0.4F, 0.2F}).view({2, 2}), WeightLevels::kTernary);
  EXPECT_TRUE(codes.values.flatten().equal(torch::tensor({1.0F, -1.0F, 0.0F, 0.0F})));
  EXPECT_NEAR(codes.scale.item<double>(), 1.15, 1e-6);
  // Half of gamma rounds to the even 0: mean |w| = 2, w / gamma = 0.5 and 1.5.
  const auto ties = weight_codes(torch::tensor({{1.0F, -3.0F}}), WeightLevels::kTernary);
  EXPECT_TRUE(ties.values.equal(torch::tensor({{0.0F, -1.0F}})));
}

TEST(BitLinear, BinaryWeightsAreSignsAroundTheMean) {
  // Mean 1; 1 - 1 = 0 counts as below. beta = (4 + 1 + 2 + 1) / 4 = 2.
  const auto codes =
      weight_codes(torch::tensor({4.0F, 1.0F, -2.0F, 1.0F}).view({2, 2}), WeightLevels::kBinary);
  EXPECT_TRUE(codes.values.flatten().equal(torch::tensor({1.0F, -1.0F, -1.0F, -1.0F})));
  EXPECT_NEAR(codes.scale.item<double>(), 2, 1e-6);
}

TEST(BitLinear, EveryMatrixHasItsOwnScale) {
  auto stack = normal_of({3, 8, 16}, 1);
  stack[1].mul_(100);
  const auto all = weight_codes(stack, WeightLevels::kTernary);
  ASSERT_EQ(all.scale.sizes(), (std::vector<int64_t>{3, 1, 1}));
  for (int64_t e = 0; e < 3; ++e) {
    const auto one = weight_codes(stack[e], WeightLevels::kTernary);
    EXPECT_TRUE(all.values[e].equal(one.values)) << e;
    EXPECT_NEAR(all.scale[e].item<double>(), stack[e].abs().mean().item<double>(), 1e-4);
  }
}

TEST(BitLinear, RoundingAgainKeepsCodesAndChangesTheScaleByTheShareOfZeros) {
  const auto once = weight_codes(normal_of({64, 64}, 2), WeightLevels::kTernary);
  const double zeros = once.values.eq(0).to(torch::kFloat64).mean().item<double>();
  // P(|z| < sqrt(2 / pi) / 2) of a normal variable.
  EXPECT_NEAR(zeros, 0.310, 0.02);
  const auto twice = weight_codes(meant_by(once), WeightLevels::kTernary);
  EXPECT_TRUE(twice.values.equal(once.values));
  EXPECT_NEAR(twice.scale.item<double>(), once.scale.item<double>() * (1 - zeros), 1e-5);
}

TEST(BitLinear, MatricesAndRowsOfZerosStayZeros) {
  for (const auto levels : {WeightLevels::kTernary, WeightLevels::kBinary}) {
    const auto codes = weight_codes(torch::zeros({2, 3}), levels);
    EXPECT_TRUE(torch::isfinite(meant_by(codes)).all().item<bool>());
    EXPECT_NEAR(codes.scale.item<double>(), 1e-5, 1e-9);
  }
  for (const auto& codes : {row_codes(torch::zeros({2, 3})), row_codes(torch::full({1, 2}, 1e-38)),
                            normalized_row_codes(torch::zeros({2, 3}))}) {
    EXPECT_EQ(codes.values.abs().max().item<double>(), 0);
    EXPECT_TRUE(torch::isfinite(codes.scale).all().item<bool>());
  }
}

TEST(BitLinear, RowsKeepWithinTheirLargestValueAndAHalfStep) {
  const auto x =
      normal_of({5, 40}, 3) * torch::tensor({1.0F, 1e-6F, 1e6F, 0.1F, 3.0F}).unsqueeze(1);
  const auto codes = row_codes(x);
  const auto largest = x.abs().amax(1, true);
  EXPECT_TRUE(codes.values.equal(codes.values.round()));
  EXPECT_EQ(codes.values.abs().amax(1).min().item<double>(), 127);
  EXPECT_EQ(codes.values.abs().max().item<double>(), 127);
  EXPECT_LE(((meant_by(codes) - x).abs() / largest).max().item<double>(), 0.5 / 127 * 1.001);
  // Normalised rows have the same codes, and stand for the rows over their root mean squares.
  const auto normalized = normalized_row_codes(x);
  EXPECT_TRUE(normalized.values.equal(codes.values));
  const auto want = x / (x.square().mean(1, true) + kBitNormEps).sqrt();
  EXPECT_LE(((meant_by(normalized) - want).abs() / want.abs().amax(1, true)).max().item<double>(),
            0.5 / 127 * 1.001);
}

TEST(BitLinear, GradientsTakeBothRoundingsForTheIdentity) {
  for (const auto levels : {WeightLevels::kTernary, WeightLevels::kBinary}) {
    BitLinear map(BitLinearOptions(12, 7).levels(levels).norm(false));
    map->weight.data().copy_(normal_of({7, 12}, 4));
    const auto x = normal_of({3, 5, 12}, 5).requires_grad_();
    const auto grad = normal_of({3, 5, 7}, 6);
    const auto y = map(x);
    const auto weight = meant_by(weight_codes(map->weight, levels));
    const auto inputs = meant_by(row_codes(x));
    EXPECT_LT(apart_by(y, inputs.matmul(weight.t())), kBitClose);
    y.backward(grad);
    EXPECT_LT(apart_by(x.grad(), grad.matmul(weight)), kBitClose);
    EXPECT_LT(
        apart_by(map->weight.grad(), grad.flatten(0, 1).t().matmul(inputs.flatten(0, 1).detach())),
        kBitClose);
  }
}

TEST(BitLinear, GradientsReachInputsThroughTheNormAsIfNothingWereRounded) {
  BitLinear map(BitLinearOptions(12, 7));
  map->weight.data().copy_(normal_of({7, 12}, 7));
  const auto x = normal_of({6, 12}, 8, 3).requires_grad_();
  const auto same = x.detach().clone().requires_grad_();
  const auto grad = normal_of({6, 7}, 9);
  map(x).backward(grad);
  const auto weight = meant_by(weight_codes(map->weight, WeightLevels::kTernary));
  const auto normalized = same / (same.square().mean(1, true) + kBitNormEps).sqrt();
  normalized.matmul(weight.t()).backward(grad);
  EXPECT_LT(apart_by(x.grad(), same.grad()), 1e-4);
}

TEST(BitLinear, FloatLevelsAreALinearMap) {
  BitLinear map(BitLinearOptions(4, 3).levels(WeightLevels::kFloat));
  map->weight.data().copy_(normal_of({3, 4}, 10));
  const auto x = normal_of({2, 5, 4}, 11);
  EXPECT_TRUE(map(x).equal(x.matmul(map->weight.t())));
  EXPECT_EQ(map->named_parameters().keys(), std::vector<std::string>{"weight"});
  EXPECT_THROW(weight_codes(map->weight, WeightLevels::kFloat), ArgumentError);
  EXPECT_THROW(BitLinear(BitLinearOptions(0, 3)), ArgumentError);
}

MlpExperts bit_bank(WeightLevels weights, Activation activation, bool bias) {
  MlpExperts experts(
      MlpExpertsOptions(24, 40, 3).activation(activation).bias(bias).weights(weights));
  experts->reset_parameters(tensor::make_generator(12));
  return experts;
}

/// The formula, an expert and a row at a time.
torch::Tensor bit_by_hand(MlpExpertsImpl& experts, const torch::Tensor& x, int64_t e) {
  const auto levels = experts.options.weights();
  const auto map = [&](const torch::Tensor& in, const torch::Tensor& weight,
                       const torch::Tensor& bias) {
    const auto y = meant_by(row_codes(in)).matmul(meant_by(weight_codes(weight[e], levels)).t());
    return bias.defined() ? y + bias[e] : y;
  };
  const auto up = map(x, experts.up_proj, experts.up_bias);
  const auto hidden =
      experts.gate_proj.defined()
          ? activate(map(x, experts.gate_proj, experts.gate_bias), experts.options.activation()) *
                up
          : activate(up, experts.options.activation());
  const auto size = (hidden.square().mean(-1, true) + kBitNormEps).sqrt();
  return map(hidden / size, experts.down_proj, experts.down_bias);
}

struct BankCase {
  WeightLevels weights;
  Activation activation;
  bool bias;
};
const std::vector<BankCase> kBanks = {
    {WeightLevels::kTernary, Activation::kSwiglu, false},
    {WeightLevels::kTernary, Activation::kSquaredRelu, true},
    {WeightLevels::kBinary, Activation::kGeglu, true},
    {WeightLevels::kBinary, Activation::kRelu, false},
};

TEST(BitExperts, AreTheFormulaOfEveryExpert) {
  const torch::NoGradGuard no_grad;
  for (const auto& c : kBanks) {
    auto experts = bit_bank(c.weights, c.activation, c.bias);
    const auto x = normal_of({10, 24}, 13);
    const auto expert = torch::tensor({0, 2, 2, 0, 2, 0, 0, 2, 2, 0}, torch::kLong);
    const auto got = forward_each(*experts, x, expert);
    const auto all = experts->forward_all(x).values;
    for (int64_t n = 0; n < 10; ++n) {
      const auto e = expert[n].item<int64_t>();
      const auto want = bit_by_hand(*experts, x[n].unsqueeze(0), e)[0];
      EXPECT_LT(apart_by(got[n], want), 2e-2) << n;  // a hidden code may differ by one
      EXPECT_LT(apart_by(all[e][n], want), 2e-2) << n;
    }
    EXPECT_NE(experts->why_not_fused(x), "");
  }
}

TEST(BitExperts, LearnAndLeaveExpertsWithoutTokensAlone) {
  auto experts = bit_bank(WeightLevels::kTernary, Activation::kSwiglu, false);
  const auto x = normal_of({8, 24}, 14).requires_grad_();
  forward_each(*experts, x, torch::tensor({0, 0, 2, 2, 0, 0, 2, 2}, torch::kLong))
      .square()
      .sum()
      .backward();
  for (const auto* parameter : {&experts->gate_proj, &experts->up_proj, &experts->down_proj}) {
    EXPECT_GT(parameter->grad()[0].abs().max().item<double>(), 0);
    EXPECT_EQ(parameter->grad()[1].abs().max().item<double>(), 0);
    EXPECT_GT(parameter->grad()[2].abs().max().item<double>(), 0);
  }
  EXPECT_GT(x.grad().abs().min().item<double>(), 0);
}

TEST(BitExperts, RunOnTheKernelsWithTheNumbersTheyWereLearnedWith) {
  const torch::NoGradGuard no_grad;
  for (const auto& c : kBanks) {
    auto experts = bit_bank(c.weights, c.activation, c.bias);
    const auto x = normal_of({200, 24}, 15);
    const auto expert = torch::arange(200, torch::kLong) % 3;
    const auto want = forward_each(*experts, x, expert);
    const auto all = experts->forward_all(x).values;
    experts->pack(kernels::WeightFormat::kTernary);
    EXPECT_EQ(experts->why_not_fused(x), "");
    const auto got = forward_each(*experts, x, expert);
    // Sums of codes are exact on both sides; a hidden value on the edge of two codes may go to
    // either. Such rows are few.
    const auto row_error = (got - want).abs().amax(1) / want.abs().amax(1);
    EXPECT_LT(row_error.median().item<double>(), 1e-5);
    EXPECT_LT(row_error.max().item<double>(), 2e-2);
    EXPECT_LE(row_error.gt(1e-4).sum().item<int64_t>(), 4);
    EXPECT_LT(apart_by(experts->forward_all(x).values, all), 2e-2);
    experts->unpack();
    EXPECT_TRUE(forward_each(*experts, x, expert).equal(want));
  }
}

TEST(BitExperts, WithoutTheHiddenNormTheNumbersWouldDiffer) {
  // Packed by hand in the same format, without eps: the last product's inputs have another size.
  const torch::NoGradGuard no_grad;
  auto experts = bit_bank(WeightLevels::kTernary, Activation::kSwiglu, false);
  const auto x = normal_of({6, 24}, 16);
  const auto zeros = torch::zeros({6}, torch::kLong);
  const auto want = forward_each(*experts, x, zeros);
  auto plain = bit_bank(WeightLevels::kFloat, Activation::kSwiglu, false);
  plain->pack(kernels::WeightFormat::kTernary);
  EXPECT_GT(apart_by(forward_each(*plain, x, zeros), want), 0.5);
}

template <typename Call>
std::string pack_refusal(const Call& call) {
  try {
    call();
  } catch (const ArgumentError& error) {
    return error.what();
  }
  return "nothing";
}

TEST(Packing, FloatExpertsGiveTheSameNumbersInF32) {
  const torch::NoGradGuard no_grad;
  auto experts = bit_bank(WeightLevels::kFloat, Activation::kSwiglu, true);
  const auto x = normal_of({30, 24}, 17);
  const auto expert = torch::arange(30, torch::kLong) % 3;
  const auto want = forward_each(*experts, x, expert);
  experts->pack(kernels::WeightFormat::kF32);
  EXPECT_LT(apart_by(forward_each(*experts, x, expert), want), kBitClose);
  experts->pack(kernels::WeightFormat::kBf16);  // again, in another one
  const double rounded = apart_by(forward_each(*experts, x, expert), want);
  EXPECT_GT(rounded, 1e-4);
  EXPECT_LT(rounded, 2e-2);
}

TEST(Packing, RefusesWhatTheKernelsLack) {
  auto ternary = bit_bank(WeightLevels::kTernary, Activation::kSwiglu, false);
  EXPECT_NE(pack_refusal([&] { ternary->pack(kernels::WeightFormat::kInt8); }).find("\"ternary\""),
            std::string::npos);
  EXPECT_EQ(ternary->packed(), nullptr);
  auto identity = bit_bank(WeightLevels::kFloat, Activation::kIdentity, false);
  EXPECT_NE(pack_refusal([&] { identity->pack(kernels::WeightFormat::kF32); }).find("activation"),
            std::string::npos);
  auto wide = bit_bank(WeightLevels::kFloat, Activation::kRelu, false);
  wide->to(torch::kFloat64);
  EXPECT_NE(pack_refusal([&] { wide->pack(kernels::WeightFormat::kF32); }).find("double"),
            std::string::npos);
  EXPECT_THROW(MlpExperts(MlpExpertsOptions(4, 4, 1)
                              .weights(WeightLevels::kBinary)
                              .compute(kernels::ComputeType::kBf16)),
               ArgumentError);
  EXPECT_THROW(
      MlpExperts(
          MlpExpertsOptions(4, 4, 1).weights(WeightLevels::kTernary).keep_activations(false)),
      ArgumentError);
}

TEST(Packing, PackedExpertsHaveNoGradientAndAreUnpackedByChanges) {
  const auto format = kernels::WeightFormat::kF32;
  auto experts = bit_bank(WeightLevels::kFloat, Activation::kRelu, false);
  experts->pack(format);
  const auto zeros = torch::zeros({2}, torch::kLong);
  const auto x = normal_of({2, 24}, 18).requires_grad_();
  EXPECT_NE(pack_refusal([&] { forward_each(*experts, x, zeros); }).find("unpack"),
            std::string::npos);
  EXPECT_NE(pack_refusal([&] {
              const torch::NoGradGuard no_grad;
              forward_each(*experts, normal_of({2, 23}, 1), zeros);
            }).find("24"),
            std::string::npos);
  const auto copy = std::dynamic_pointer_cast<MlpExpertsImpl>(experts->clone());
  EXPECT_EQ(copy->packed(), nullptr);
  ASSERT_NE(experts->packed(), nullptr);
  ExpertEdit edit(torch::tensor({2, 0}, torch::kLong));
  experts->take_experts(edit);
  edit.commit();
  EXPECT_EQ(experts->packed(), nullptr);
  experts->pack(format);
  EXPECT_EQ(experts->packed()->shape().num_experts, 2);
  experts->reset_parameters(tensor::make_generator(1));
  EXPECT_EQ(experts->packed(), nullptr);
}

/// Two banks of one model.
struct TwoBanks : torch::nn::Module {
  TwoBanks(MlpExperts a, MlpExperts b) {
    first = register_module("first", std::move(a));
    second = register_module("second", std::move(b));
  }
  MlpExperts first{nullptr}, second{nullptr};
};

TEST(Packing, PacksAllOfAModelOrNothing) {
  TwoBanks model(bit_bank(WeightLevels::kFloat, Activation::kSwiglu, false),
                 bit_bank(WeightLevels::kFloat, Activation::kRelu, false));
  const auto size = pack_networks(model, kernels::WeightFormat::kInt8);
  EXPECT_EQ(size.networks, 6);
  EXPECT_EQ(size.float_bytes, 3 * 5 * 24 * 40 * 4);
  EXPECT_EQ(size.bytes,
            3 * (model.first->packed()->expert_bytes() + model.second->packed()->expert_bytes()));
  unpack_networks(model);
  EXPECT_EQ(model.second->packed(), nullptr);
  TwoBanks mixed(bit_bank(WeightLevels::kFloat, Activation::kSwiglu, false),
                 bit_bank(WeightLevels::kTernary, Activation::kRelu, false));
  const auto message = pack_refusal([&] { pack_networks(mixed, kernels::WeightFormat::kInt8); });
  EXPECT_EQ(message.rfind("second: ", 0), 0U) << message;
  EXPECT_EQ(mixed.first->packed(), nullptr);
  torch::nn::Module empty;
  EXPECT_THROW(pack_networks(empty, kernels::WeightFormat::kF32), ArgumentError);
}

TEST(BitLinear, CodesKeepTheTypeAndCarryTheGradientOfTheRatio) {
  for (const auto type : {torch::kFloat32, torch::kFloat64, torch::kBFloat16}) {
    for (const auto levels : {WeightLevels::kTernary, WeightLevels::kBinary}) {
      const auto weight = normal_of({2, 3, 4, 5}, 20).to(type).requires_grad_();
      const auto codes = weight_codes(weight, levels);
      EXPECT_EQ(codes.values.scalar_type(), type);
      EXPECT_EQ(codes.scale.scalar_type(), type);
      ASSERT_EQ(codes.scale.sizes(), (std::vector<int64_t>{2, 3, 1, 1}));
      EXPECT_FALSE(codes.scale.requires_grad());
      const auto mean = weight.detach().abs().to(torch::kFloat32).mean({2, 3}, true);
      EXPECT_TRUE(torch::allclose(codes.scale.to(torch::kFloat32), mean, 1e-2, 1e-3));
      codes.values.sum().backward();
      EXPECT_EQ(weight.grad().scalar_type(), type);
      EXPECT_TRUE(torch::allclose(weight.grad(), (1 / codes.scale).expand_as(weight), 1e-2));
    }
    const auto rows = normal_of({3, 7}, 21).to(type).requires_grad_();
    const auto codes = row_codes(rows);
    const auto normalized = normalized_row_codes(rows);
    EXPECT_TRUE(codes.values.equal(normalized.values));
    for (const auto& made : {codes, normalized}) {
      EXPECT_EQ(made.values.scalar_type(), type);
      EXPECT_EQ(made.scale.scalar_type(), type);
      EXPECT_FALSE(made.scale.requires_grad());
      EXPECT_TRUE(made.values.requires_grad());
    }
    EXPECT_TRUE(torch::allclose(codes.scale, rows.detach().abs().amax(1, true) / 127));
  }
}

TEST(BitLinear, IsTheProductOfWhatCodesStandForWithAndWithoutTheNorm) {
  for (const auto levels : {WeightLevels::kTernary, WeightLevels::kBinary}) {
    for (const bool norm : {true, false}) {
      BitLinear map(BitLinearOptions(12, 7).levels(levels).norm(norm));
      EXPECT_EQ(map->weight.abs().max().item<double>(), 0);  // until it is drawn
      map->weight.data().copy_(normal_of({7, 12}, 22));
      const auto x = normal_of({2, 3, 12}, 23, 4);
      const auto rows = norm ? normalized_row_codes(x) : row_codes(x);
      const auto want = meant_by(rows).matmul(meant_by(weight_codes(map->weight, levels)).t());
      EXPECT_LT(apart_by(map(x), want), kBitClose);
    }
  }
}

}  // namespace
}  // namespace moekit::nn
