#include <gtest/gtest.h>
#include <torch/nn/modules/linear.h>

#include "moekit/core/error.h"
#include "moekit/nn/experts/conv_experts.h"
#include "moekit/nn/experts/expert_list.h"
#include "moekit/nn/experts/linear_experts.h"
#include "moekit/nn/experts/mlp_experts.h"
#include "moekit/nn/experts/patch_experts.h"

namespace moekit::nn {
namespace {

struct Case {
  const char* name;
  std::shared_ptr<ExpertsImpl> (*make)();
  std::vector<int64_t> token;  // shape of one token
};

constexpr int64_t kExperts = 4;

std::shared_ptr<ExpertsImpl> make_mlp(Activation activation) {
  return std::make_shared<MlpExpertsImpl>(
      MlpExpertsOptions(6, 9, kExperts).output_size(5).activation(activation));
}

/// Two linear layers; AnyModule takes no Sequential, whose forward() is a template.
struct TwoLayersImpl : torch::nn::Cloneable<TwoLayersImpl> {
  explicit TwoLayersImpl(int64_t hidden) : hidden_size(hidden) { TwoLayersImpl::reset(); }
  void reset() override {
    a = register_module("a", torch::nn::Linear(6, hidden_size));
    b = register_module("b", torch::nn::Linear(hidden_size, 5));
  }
  torch::Tensor forward(const torch::Tensor& x) { return b->forward(a->forward(x)); }
  int64_t hidden_size;
  torch::nn::Linear a{nullptr}, b{nullptr};
};
TORCH_MODULE(TwoLayers);

torch::nn::AnyModule net(int64_t hidden) { return torch::nn::AnyModule(TwoLayers(hidden)); }

const Case kCases[] = {
    {"Relu", [] { return make_mlp(Activation::kRelu); }, {6}},
    {"Gelu", [] { return make_mlp(Activation::kGelu); }, {6}},
    {"Swiglu", [] { return make_mlp(Activation::kSwiglu); }, {6}},
    {"Linear",
     []() -> std::shared_ptr<ExpertsImpl> {
       return std::make_shared<LinearExpertsImpl>(LinearExpertsOptions(6, 5, kExperts));
     },
     {6}},
    {"Patch",
     []() -> std::shared_ptr<ExpertsImpl> {
       return std::make_shared<PatchExpertsImpl>(
           PatchExpertsOptions(6, 5, kExperts).num_filters(3));
     },
     {1, 4, 6}},
    {"List",
     []() -> std::shared_ptr<ExpertsImpl> {
       return std::make_shared<ExpertListImpl>(
           std::vector<torch::nn::AnyModule>{net(3), net(8), net(1), net(2)}, 5);
     },
     {6}},
    {"Conv",
     []() -> std::shared_ptr<ExpertsImpl> {
       return std::make_shared<ConvExpertsImpl>(ConvExpertsOptions(
           ConvNetOptions(1, 12, 12).blocks({{2}}).hidden({5, 4}).num_networks(kExperts), 5));
     },
     {1, 12, 12}},
    {"ConvTwoBlocks",
     []() -> std::shared_ptr<ExpertsImpl> {
       return std::make_shared<ConvExpertsImpl>(
           ConvExpertsOptions(ConvNetOptions(2, 12, 12)
                                  .blocks({{2, 3, 1, true}, {3, 3, 1, false}})
                                  .hidden({4})
                                  .num_networks(kExperts),
                              5));
     },
     {2, 12, 12}},
};

class ExpertsTest : public testing::TestWithParam<Case> {
 protected:
  torch::Tensor tokens(int64_t n) {
    std::vector<int64_t> shape = GetParam().token;
    shape.insert(shape.begin(), n);
    return torch::randn(shape);
  }
};

TEST_P(ExpertsTest, RoutedEvaluationEqualsTheDenseOneWithGradients) {
  torch::manual_seed(7);
  auto experts = GetParam().make();
  experts->eval();  // batch statistics would depend on which tokens come together
  const auto x = tokens(11);
  // Expert 2 gets nothing, expert 0 most.
  const auto index = torch::tensor({0, 1, 0, 3, 0, 0, 1, 0, 3, 0, 0}, torch::kLong).unsqueeze(1);
  const auto plan = make_plan(index, kExperts);
  const auto rows = experts->forward_routed(dispatch(x, plan), plan);
  const auto routed = combine(rows, plan, torch::ones({11}));
  const auto all = experts->forward_all(x).values;
  const auto dense =
      all.gather(0, index.reshape({1, 11, 1}).expand({1, 11, all.size(2)})).squeeze(0);
  EXPECT_TRUE(torch::allclose(routed, dense, 1e-5, 1e-6));
  routed.square().sum().backward();
  std::vector<torch::Tensor> got;
  for (const auto& p : experts->parameters()) {
    got.push_back(p.grad().defined() ? p.grad().clone() : torch::zeros_like(p));
  }
  experts->zero_grad();
  experts->forward_all(x)
      .values.gather(0, index.reshape({1, 11, 1}).expand({1, 11, all.size(2)}))
      .square()
      .sum()
      .backward();
  size_t i = 0;
  for (const auto& item : experts->named_parameters()) {
    const auto want =
        item.value().grad().defined() ? item.value().grad() : torch::zeros_like(item.value());
    EXPECT_TRUE(torch::allclose(got[i], want, 1e-4, 1e-5)) << item.key();
    if (item.value().dim() > 1 && item.value().size(0) == kExperts &&
        std::string(GetParam().name) != "List") {
      EXPECT_EQ(got[i][2].abs().max().item<float>(), 0.0F) << item.key();
    }
    ++i;
  }
}

TEST_P(ExpertsTest, TakesNoTokensAndOneToken) {
  auto experts = GetParam().make();
  experts->eval();
  for (const int64_t n : {0, 1}) {
    const auto plan = make_plan(torch::zeros({n, 1}, torch::kLong), kExperts);
    const auto rows = experts->forward_routed(dispatch(tokens(n), plan), plan);
    EXPECT_EQ(rows.sizes(), (std::vector<int64_t>{n, 5}));
  }
  EXPECT_EQ(experts->forward_all(tokens(1)).values.sizes(), (std::vector<int64_t>{kExperts, 1, 5}));
}

TEST_P(ExpertsTest, ACloneSharesNoWeights) {
  auto experts = GetParam().make();
  auto copy = std::dynamic_pointer_cast<ExpertsImpl>(experts->clone());
  ASSERT_NE(copy, nullptr);
  experts->eval();
  copy->eval();
  const auto x = tokens(3);
  const auto before = copy->forward_all(x).values.detach().clone();
  EXPECT_TRUE(torch::equal(before, experts->forward_all(x).values));
  const torch::NoGradGuard no_grad;
  for (auto& p : experts->parameters()) p.add_(1);
  EXPECT_TRUE(torch::equal(before, copy->forward_all(x).values));
}

INSTANTIATE_TEST_SUITE_P(Kinds, ExpertsTest, testing::ValuesIn(kCases),
                         [](const auto& tested) { return std::string(tested.param.name); });

TEST(MlpExperts, TheSameGeneratorGivesTheSameWeights) {
  MlpExperts a(MlpExpertsOptions(3, 4, 2));
  MlpExperts b(MlpExpertsOptions(3, 4, 2));
  a->reset_parameters(at::detail::createCPUGenerator(9));
  b->reset_parameters(at::detail::createCPUGenerator(9));
  EXPECT_TRUE(torch::equal(a->up_proj, b->up_proj));
  EXPECT_THROW(MlpExperts(MlpExpertsOptions(3, 0, 2)), ArgumentError);
}

TEST(ExpertList, NamesTheExpertWhoseOutputDoesNotFit) {
  ExpertList list(std::vector<torch::nn::AnyModule>{net(2)}, 4);
  EXPECT_THROW(list->forward_all(torch::ones({1, 6})), ArgumentError);
  EXPECT_THROW(ExpertList(std::vector<torch::nn::AnyModule>{}, 4), ArgumentError);
}

TEST(MlpExperts, OfZeroOutputAddNothingAtFirstAndLearn) {
  MlpExperts experts(MlpExpertsOptions(4, 6, 3).init(ExpertInit::kZeroOutput));
  const auto x = torch::randn({5, 4});
  const auto out = experts->forward_all(x);
  EXPECT_EQ(out.values.abs().max().item<float>(), 0.F);
  EXPECT_GT(out.features.abs().max().item<float>(), 0.F);
  EXPECT_EQ(experts->up_bias.abs().max().item<float>(), 0.F);
  (out.values - 1).square().sum().backward();
  EXPECT_GT(experts->down_proj.grad().abs().max().item<float>(), 0.F);
}

}  // namespace
}  // namespace moekit::nn
