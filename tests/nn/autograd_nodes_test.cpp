// Every autograd node of ours is differentiated twice here, against finite differences of its first
// derivative, which its kernels compute. A node in the sources that is not in the list below fails
// the first test.
#include <gtest/gtest.h>
#include <torch/autograd.h>

#include <filesystem>
#include <functional>
#include <map>
#include <regex>
#include <set>

#include "moekit/core/files.h"
#include "moekit/nn/attention.h"
#include "moekit/nn/conv_maxpool.h"
#include "moekit/nn/experts/mlp_experts.h"
#include "moekit/nn/experts/patch_experts.h"
#include "moekit/nn/experts/token_blends.h"
#include "moekit/nn/grouped_linear.h"
#include "moekit/nn/linear_cross_entropy.h"
#include "moekit/nn/moe_layer.h"
#include "moekit/nn/rotary.h"
#include "moekit/nn/routers/linear_router.h"

namespace moekit::nn {
namespace {

using Tensors = std::vector<torch::Tensor>;

/// What a node is differentiated in: a scalar of tensors.
struct NodeCase {
  std::function<torch::Tensor(const Tensors&)> loss;
  Tensors at;  ///< float32
  /// The scalar that is compared is the squared length of the loss' gradient for these of them: a
  /// penalty on part of the inputs must reach the others too.
  std::set<size_t> penalised;
};

Tensors leaves(const Tensors& at) {
  Tensors out;
  for (const auto& t : at) out.push_back(t.detach().clone().requires_grad_());
  return out;
}

/// The penalty at a point. @param create_graph  whether it can be differentiated
torch::Tensor penalty(const NodeCase& of, const Tensors& point, bool create_graph) {
  Tensors wanted;
  for (const size_t i : of.penalised) wanted.push_back(point[i]);
  const auto gradients =
      torch::autograd::grad({of.loss(point)}, wanted, {}, create_graph, create_graph);
  auto sum = torch::zeros({}, torch::kFloat64);
  for (const auto& g : gradients) sum = sum + g.to(torch::kFloat64).square().sum();
  return sum;
}

/// Compares the penalty's derivative along random directions with central differences.
void expect_second_derivative(const NodeCase& of, const char* what) {
  const auto point = leaves(of.at);
  const auto value = penalty(of, point, true);
  // The first derivative is the same whether it is to be differentiated or not.
  const auto plain = penalty(of, leaves(of.at), false).item<double>();
  EXPECT_NEAR(value.item<double>(), plain, 1e-4 * std::fabs(plain)) << what;
  const auto gradients = torch::autograd::grad({value}, point, {}, false, false, true);
  for (size_t i = 0; i < point.size(); ++i) {
    // Along one input at a time: an error in a small one must not hide behind a large one.
    const auto direction = torch::randn_like(point[i]);
    const double step = 2e-3;
    const auto at_step = [&](double h) {
      Tensors moved = of.at;
      moved[i] = moved[i] + h * direction;
      return penalty(of, leaves(moved), false).item<double>();
    };
    const double want = (at_step(step) - at_step(-step)) / (2 * step);
    const double got = gradients[i].defined() ? (gradients[i] * direction).sum().item<double>() : 0;
    EXPECT_GT(std::fabs(want), 1e-3) << what << ", input " << i << ": nothing to compare";
    EXPECT_NEAR(got, want, 2e-2 * std::fabs(want) + 1e-3 * plain) << what << ", input " << i;
  }
}

/// Three forms of the penalty: on all inputs, on the first alone, on the last alone.
void expect_twice(NodeCase of, const std::string& what) {
  std::set<size_t> all;
  for (size_t i = 0; i < of.at.size(); ++i) all.insert(i);
  for (const auto& [name, chosen] : std::map<std::string, std::set<size_t>>{
           {"all", all}, {"the first", {0}}, {"the last", {of.at.size() - 1}}}) {
    of.penalised = chosen;
    expect_second_derivative(of, (what + ", penalty on " + name).c_str());
  }
}

void fused_ffn_twice() {
  for (const auto activation : {Activation::kSwiglu, Activation::kGelu, Activation::kSquaredRelu}) {
    torch::manual_seed(11);
    const bool gated = is_gated(activation);
    const auto index = torch::tensor({0, 1, 1, 3, 3, 0, 1, 0, 0, 3}).view({5, 2});  // none to 2
    const auto plan = make_plan(index, 4, 3);  // and some are dropped
    ASSERT_GT(plan.num_dropped(), 0);
    FusedFfn fused;
    // Tokens, weights, up, down, their biases; gate and its bias.
    NodeCase of;
    of.at = {torch::randn({5, 6}),        torch::rand({10}) + 0.5,  torch::randn({4, 7, 6}) / 2,
             torch::randn({4, 3, 7}) / 2, torch::randn({4, 7}) / 2, torch::randn({4, 3}) / 2};
    if (gated) {
      of.at.push_back(torch::randn({4, 7, 6}) / 2);
      of.at.push_back(torch::randn({4, 7}) / 2);
    }
    of.loss = [&](const Tensors& t) {
      const FfnParameters parameters{gated ? t[6] : torch::Tensor(), t[2], t[3],
                                     gated ? t[7] : torch::Tensor(), t[4], t[5]};
      EXPECT_EQ(FusedFfn::why_not(t[0], parameters, activation), "");
      return fused
          .forward(t[0], parameters, plan, t[1], activation, kernels::ComputeType::kF32, true)
          .tanh()
          .sum();
    };
    expect_twice(of, "fused " + std::string(enum_name(activation)));
  }
}

void conv_maxpool_twice() {
  torch::manual_seed(12);
  // Few windows: at a step over a place where two of a window's values are equal the first
  // derivative jumps, and differences say nothing.
  const auto images = torch::randn({2, 1, 5, 6});
  NodeCase of;
  of.at = {torch::randn({2, 3, 1, 3, 3}) / 3, torch::rand({2, 3})};
  of.loss = [&](const Tensors& t) {
    EXPECT_TRUE(can_fuse_conv3x3(images, 3, 0));
    return conv3x3_maxpool2_relu(images, t[0], t[1]).tanh().sum();
  };
  expect_twice(of, "conv");
}

void grouped_linear_twice() {
  torch::manual_seed(13);
  NodeCase of;
  of.at = {torch::randn({9, 5}), torch::randn({4, 3, 5}) / 2, torch::randn({4, 3})};
  of.loss = [](const Tensors& t) {
    return grouped_linear(t[0], t[1], t[2], {0, 3, 3, 4, 9}).tanh().sum();
  };
  expect_twice(of, "grouped linear");
}

void linear_cross_entropy_twice() {
  torch::manual_seed(16);
  NodeCase of;
  of.at = {torch::randn({5, 4}), torch::randn({7, 4})};
  const auto target = torch::tensor({0, 3, 6, 3, 1}, torch::kLong);
  of.loss = [target](const Tensors& t) { return linear_cross_entropy(t[0], t[1], target); };
  expect_twice(of, "linear cross entropy");
}

void fused_attention_twice() {
  torch::manual_seed(15);
  NodeCase of;
  of.at = {torch::randn({2, 4, 2, 3}), torch::randn({2, 5, 1, 3}), torch::randn({2, 5, 1, 4})};
  AttentionSettings settings;
  settings.scale = 0.8;
  settings.first = torch::tensor({{0, 1, 4, 2}, {0, 0, 3, 3}}, torch::kInt);  // and one sees none
  of.loss = [&](const Tensors& t) {
    EXPECT_EQ(why_attention_not_fused(t[0], t[1], t[2]), "");
    return causal_attention(t[0], t[1], t[2], settings).tanh().sum();
  };
  expect_twice(of, "attention");
}

void token_blends_twice() {
  torch::manual_seed(18);
  // Expert 0 computes; 1 and 2 are constant, 3 is a copy, 4 gives zeros. A token chooses three.
  const auto index = torch::tensor({0, 1, 3, 2, 1, 4, 3, 2, 0, 1, 3, 2}).view({4, 3});
  const auto plan = make_plan(index, 5);
  NodeCase of;
  of.at = {torch::randn({4, 6}), torch::rand({12}) + 0.5, torch::randn({2, 6}),
           torch::randn({2, 2, 6}) / 2};
  of.loss = [plan](const Tensors& t) {
    return blend_tokens(t[0], t[1], t[2], t[3], plan, {1, 2, 1}).tanh().sum();
  };
  expect_twice(of, "token blends");
}

void rotary_twice() {
  torch::manual_seed(17);
  const auto table = rotary_table(5, 4, 10);
  NodeCase of;
  of.at = {torch::randn({2, 3, 2, 5})};  // and a channel that passes
  of.loss = [table](const Tensors& t) { return apply_rotary(t[0], table, 2).tanh().sum(); };
  expect_twice(of, "rotary");
}

void patch_responses_twice() {
  for (const auto activation : {Activation::kCubic, Activation::kRelu}) {
    torch::manual_seed(14);
    PatchExperts experts(PatchExpertsOptions(5, 2, 3).num_filters(2).activation(activation));
    const auto samples = torch::randn({6, 1, 4, 5});
    const auto plan = make_plan(torch::tensor({0, 2, 2, 0, 2, 0}).unsqueeze(1), 3);
    NodeCase of;
    of.at = {torch::randn({3, 4, 5}) / 2, torch::randn({3, 4}) / 2};
    of.loss = [&](const Tensors& t) {
      experts->weight = t[0];
      experts->bias = t[1];
      return experts->forward_dispatched(samples, plan).tanh().sum();
    };
    expect_twice(of, "patch " + std::string(enum_name(activation)));
  }
}

const std::map<std::string, void (*)()>& nodes() {
  static const std::map<std::string, void (*)()> kNodes{
      {"FusedFfnNode", fused_ffn_twice},
      {"ConvMaxPoolRelu", conv_maxpool_twice},
      {"FusedAttention", fused_attention_twice},
      {"GroupedLinear", grouped_linear_twice},
      {"PatchResponses", patch_responses_twice},
      {"LinearCrossEntropy", linear_cross_entropy_twice},
      {"Rotary", rotary_twice},
      {"TokenBlends", token_blends_twice},
  };
  return kNodes;
}

TEST(AutogradNodes, AreAllInTheListOfThisTest) {
  // Any mention outside of comments counts, and every one must be a class that is listed.
  const std::regex mention(R"(\bautograd::(Function|Node|CppNode)\b)");
  const std::regex definition(
      R"((?:class|struct)\s+(\w+)[^;{}]*:[^;{}]*\bautograd::(?:Function\s*<\s*\1\s*>|Node\b))");
  std::set<std::string> found;
  for (const char* folder : {"moekit", "cli", "examples"}) {
    for (const auto& entry : std::filesystem::recursive_directory_iterator(
             std::filesystem::path(MOEKIT_SOURCE_FOLDER) / folder)) {
      const auto extension = entry.path().extension();
      if (extension != ".h" && extension != ".cpp") continue;
      const auto text =
          std::regex_replace(read_file(entry.path(), 1 << 24), std::regex("//[^\n]*"), "");
      const auto count = [&](const std::regex& of) {
        return std::distance(std::sregex_iterator(text.begin(), text.end(), of),
                             std::sregex_iterator());
      };
      EXPECT_EQ(count(mention), count(definition)) << entry.path();
      for (std::sregex_iterator it(text.begin(), text.end(), definition), end; it != end; ++it) {
        found.insert((*it)[1].str());
      }
    }
  }
  std::set<std::string> tested;
  for (const auto& [name, test] : nodes()) tested.insert(name);
  EXPECT_EQ(found, tested);
}

TEST(AutogradNodes, HaveASecondDerivativeThatFiniteDifferencesConfirm) {
  for (const auto& [name, test] : nodes()) {
    SCOPED_TRACE(name);
    test();
  }
}

/// Sum of squared gradients of a layer's loss for its tokens and parameters, and its own gradients.
Tensors penalty_gradients(MoE layer, const torch::Tensor& tokens) {
  const auto x = tokens.clone().requires_grad_();
  Tensors wanted = layer->parameters();
  wanted.push_back(x);
  const auto first =
      torch::autograd::grad({layer->forward(x).tanh().sum()}, wanted, {}, true, true);
  auto sum = torch::zeros({}, x.options());
  for (const auto& g : first) sum = sum + g.square().sum();
  auto out = torch::autograd::grad({sum}, wanted, {}, false, false, true);
  out.push_back(sum.detach());
  return out;
}

TEST(AutogradNodes, AWholeLayersGradientPenaltyIsThatOfTheLayerInDouble) {
  // Combine weights depend on the tokens too: their path must be counted once.
  for (const bool keep : {true, false}) {
    torch::manual_seed(15);
    MoE fused(
        std::make_shared<LinearRouterImpl>(LinearRouterOptions(6, 4).top_k(2)),
        std::make_shared<MlpExpertsImpl>(
            MlpExpertsOptions(6, 9, 4).activation(Activation::kSwiglu).keep_activations(keep)),
        MoEOptions().capacity_factor(1.0));
    MoE exact(std::dynamic_pointer_cast<MoEImpl>(fused->clone()));
    exact->options.fused(false);
    exact->to(torch::kFloat64);
    const auto x = torch::randn({12, 6});
    ASSERT_EQ(fused->why_not_fused(x), "");
    const auto got = penalty_gradients(fused, x);
    const auto want = penalty_gradients(exact, x.to(torch::kFloat64));
    for (size_t i = 0; i < want.size(); ++i) {
      ASSERT_EQ(got[i].defined(), want[i].defined()) << i;
      if (!want[i].defined()) continue;
      const double size = want[i].abs().max().item<double>();
      EXPECT_GT(size, 0) << i;
      EXPECT_LE((got[i] - want[i]).abs().max().item<double>(), 1e-4 * size) << i;
    }
  }
}

TEST(AutogradNodes, AThirdDerivativeIsThereToo) {
  // y = w^3 of one filter on one patch of 1: 6 in the end. And x w' with a tanh behind.
  PatchExperts experts(PatchExpertsOptions(1, 1, 1).num_filters(1).activation(Activation::kCubic));
  auto weight = torch::full({1, 1, 1}, 2.0).requires_grad_();
  experts->weight = weight;
  experts->bias = torch::zeros({1, 1}).requires_grad_();
  auto y = experts->forward_all(torch::ones({1, 1, 1, 1})).values.sum();
  for (const double want : {12.0, 12.0, 6.0}) {  // 3 w^2, 6 w, 6
    y = torch::autograd::grad({y}, {weight}, {}, true, true)[0].sum();
    EXPECT_FLOAT_EQ(y.item<float>(), static_cast<float>(want));
  }
}

TEST(PatchExperts, GiveSamplesTheirGradient) {
  torch::manual_seed(16);
  for (const auto activation :
       {Activation::kIdentity, Activation::kCubic, Activation::kRelu, Activation::kTanh}) {
    PatchExperts experts(PatchExpertsOptions(5, 2, 2).num_filters(2).activation(activation));
    auto x = torch::randn({3, 1, 4, 5}).requires_grad_();
    experts->forward_all(x).values.tanh().sum().backward();
    ASSERT_TRUE(x.grad().defined()) << enum_name(activation);
    const auto direction = torch::randn_like(x);
    const auto at_step = [&](double h) {
      const torch::NoGradGuard no_grad;
      return experts->forward_all(x + h * direction).values.tanh().sum().item<double>();
    };
    const double want = (at_step(1e-2) - at_step(-1e-2)) / 2e-2;
    EXPECT_NEAR((x.grad() * direction).sum().item<double>(), want, 2e-2 * std::fabs(want) + 1e-3)
        << enum_name(activation);
  }
}

}  // namespace
}  // namespace moekit::nn
