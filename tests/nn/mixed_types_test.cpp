// Tokens, router and experts of different types, against the same layer in float64.
#include <gtest/gtest.h>
#include <torch/nn/modules/container/functional.h>

#include "moekit/core/error.h"
#include "moekit/nn/experts/conv_experts.h"
#include "moekit/nn/experts/expert_list.h"
#include "moekit/nn/experts/linear_experts.h"
#include "moekit/nn/experts/mlp_experts.h"
#include "moekit/nn/experts/patch_experts.h"
#include "moekit/nn/grouped_linear.h"
#include "moekit/nn/mixture.h"
#include "moekit/nn/moe_layer.h"
#include "moekit/nn/routers/attentive_router.h"
#include "moekit/nn/routers/linear_router.h"

namespace moekit::nn {
namespace {

constexpr std::array kTypes{torch::kFloat32, torch::kBFloat16, torch::kFloat64};

/// A few roundings, relative to the largest value.
double tolerance(torch::ScalarType type) {
  return type == torch::kBFloat16 ? 4e-2 : type == torch::kFloat32 ? 2e-5 : 1e-11;
}
torch::ScalarType narrowest(std::initializer_list<torch::ScalarType> types) {
  return *std::max_element(types.begin(), types.end(),
                           [](auto a, auto b) { return tolerance(a) < tolerance(b); });
}

/// Types of what goes into a layer.
struct Types {
  torch::ScalarType tokens, router, experts;
};
std::vector<Types> all_types() {
  std::vector<Types> out;
  for (const auto t : kTypes) {
    for (const auto r : kTypes) {
      for (const auto e : kTypes) out.push_back({t, r, e});
    }
  }
  return out;
}
std::ostream& operator<<(std::ostream& stream, const Types& types) {
  return stream << "tokens " << types.tokens << ", router " << types.router << ", experts "
                << types.experts;
}

void expect_close(const torch::Tensor& got, const torch::Tensor& want, double relative,
                  const std::string& what) {
  ASSERT_EQ(got.sizes(), want.sizes()) << what;
  const double size = want.abs().max().item<double>() + 1e-3;
  EXPECT_LE((got.to(torch::kFloat64) - want).abs().max().item<double>(), relative * size) << what;
}

/// Rounds a module's numbers to a type and keeps them in float64: what the exact layer computes
/// with.
void round_to(torch::nn::Module& module, torch::ScalarType type) {
  module.to(type);
  module.to(torch::kFloat64);
}

/// A layer of either kind, of the given types, and its exact twin. Runs both on the same tokens;
/// compares values, and the gradients of tokens and parameters, each in its own type.
/// @param run  (layer, tokens) -> what the layer gives, floating point
template <typename Layer, typename Run>
void expect_exact(Layer layer, const Types& types, const torch::Tensor& tokens, const Run& run,
                  const std::string& what) {
  using Impl = typename Layer::ContainedType;
  Layer exact(std::dynamic_pointer_cast<Impl>(layer->clone()));
  round_to(*exact->router, types.router);
  round_to(*exact->experts, types.experts);
  layer->router->to(types.router);
  layer->experts->to(types.experts);
  const auto x = tokens.to(types.tokens).requires_grad_();
  const auto exact_x = x.detach().to(torch::kFloat64).requires_grad_();
  const auto got = run(layer, x);
  const auto want = run(exact, exact_x);
  EXPECT_EQ(got.scalar_type(), types.experts) << what;
  // Of the router's own numbers the layer may lose nothing: it computes in float at least.
  expect_close(got.detach(), want.detach(), tolerance(types.experts) + tolerance(torch::kFloat32),
               what);
  const auto direction = torch::linspace(-1, 1, want.numel(), torch::kFloat64).view_as(want);
  (got.to(torch::kFloat64) * direction).sum().backward();
  (want * direction).sum().backward();
  const double relative =
      tolerance(narrowest({types.tokens, types.router, types.experts, torch::kFloat32}));
  EXPECT_EQ(x.grad().scalar_type(), types.tokens) << what;
  expect_close(x.grad(), exact_x.grad(), relative, what + ": tokens");
  const auto of_exact = exact->named_parameters();
  for (const auto& item : layer->named_parameters()) {
    const auto& parameter = item.value();
    const auto& exact_grad = of_exact[item.key()].grad();
    ASSERT_EQ(parameter.grad().defined(), exact_grad.defined()) << what << ": " << item.key();
    if (!exact_grad.defined()) continue;
    EXPECT_EQ(parameter.grad().scalar_type(), parameter.scalar_type()) << what;
    expect_close(parameter.grad(), exact_grad, relative, what + ": " + item.key());
  }
}

std::string describe(const char* form, const Types& types) {
  std::ostringstream stream;
  stream << form << ", " << types;
  return stream.str();
}

TEST(MixedTypes, ASparseLayerTakesAnyFusedRoutedAndDense) {
  struct Form {
    const char* name;
    bool fused;
    int64_t top_k;
    double capacity;
  };
  const auto run = [](MoE layer, const torch::Tensor& x) { return layer->forward(x); };
  for (const auto& form : {Form{"fused", true, 2, 0}, Form{"routed", false, 2, 0},
                           Form{"dropping", false, 2, 1}, Form{"dense", false, 4, 0}}) {
    for (const auto& types : all_types()) {
      torch::manual_seed(21);
      MoE layer(std::make_shared<LinearRouterImpl>(LinearRouterOptions(6, 4).top_k(form.top_k)),
                std::make_shared<MlpExpertsImpl>(
                    MlpExpertsOptions(6, 8, 4).activation(Activation::kSwiglu)),
                MoEOptions().fused(form.fused).capacity_factor(form.capacity));
      const auto tokens = torch::randn({12, 6});
      expect_exact(layer, types, tokens, run, describe(form.name, types));
      // The kernels take float experts whatever the tokens and the router are.
      EXPECT_EQ(layer->why_not_fused(tokens.to(types.tokens)).empty(),
                form.fused && types.experts == torch::kFloat32)
          << form.name << ", " << types;
    }
  }
}

TEST(MixedTypes, AMixtureTakesAnyInAllForms) {
  for (const auto form :
       {MixtureForm::kExpectation, MixtureForm::kPreSoftmax, MixtureForm::kTopK}) {
    for (const int64_t top_k : {1, 2}) {
      if (form != MixtureForm::kTopK && top_k == 2) continue;
      for (const bool training : {true, false}) {  // outside of training top-k runs sparsely
        for (const auto& types : all_types()) {
          torch::manual_seed(22);
          Mixture mixture(
              std::make_shared<LinearRouterImpl>(
                  LinearRouterOptions(6, 4).top_k(form == MixtureForm::kTopK ? top_k : 0)),
              std::make_shared<MlpExpertsImpl>(
                  MlpExpertsOptions(6, 8, 4).output_size(3).activation(Activation::kTanh)),
              MixtureOptions().form(form));
          mixture->train(training);
          expect_exact(
              mixture, types, torch::randn({7, 6}),
              [&](Mixture layer, const torch::Tensor& x) { return layer->forward(x).log_probs; },
              describe(std::string(enum_name(form)).c_str(), types));
        }
      }
    }
  }
}

TEST(MixedTypes, AnAttentiveRouterReadsFeaturesOfAnyType) {
  for (const auto& types : all_types()) {
    torch::manual_seed(23);
    Mixture mixture(std::make_shared<AttentiveRouterImpl>(AttentiveRouterOptions(6, 3)),
                    std::make_shared<MlpExpertsImpl>(
                        MlpExpertsOptions(6, 6, 3).output_size(4).activation(Activation::kTanh)));
    // Features are the experts' output in their type: the router loses that much.
    expect_exact(
        mixture, types, torch::randn({5, 6}),
        [](Mixture layer, const torch::Tensor& x) { return layer->forward(x).log_probs; },
        describe("attentive", types));
  }
}

TEST(MixedTypes, RoutingIsFloatAtLeastAndLossesAreToo) {
  for (const auto& types : all_types()) {
    Mixture mixture(std::make_shared<LinearRouterImpl>(LinearRouterOptions(6, 3)),
                    std::make_shared<MlpExpertsImpl>(MlpExpertsOptions(6, 8, 3)),
                    MixtureOptions().form(MixtureForm::kStochastic));
    mixture->router->to(types.router);
    mixture->experts->to(types.experts);
    const auto output = mixture->forward(torch::randn({5, 6}).to(types.tokens));
    EXPECT_NE(output.routing.logits.scalar_type(), torch::kBFloat16) << types;
    EXPECT_NE(output.routing.weight.scalar_type(), torch::kBFloat16) << types;
    EXPECT_EQ(output.log_probs.scalar_type(), types.experts);
    const auto loss = mixture->loss(output, torch::tensor({0, 1, 2, 3, 4}));
    EXPECT_NE(loss.scalar_type(), torch::kBFloat16) << types;
    EXPECT_TRUE(loss.isfinite().item<bool>()) << types;
  }
}

TEST(MixedTypes, SumsOverManyExpertsAreFloatSums) {
  // 64 experts that give 1, with weights of 1/64 + 1/4096: 1 + 1/64. A running sum in bfloat16,
  // whose steps are 1/256 from one half on, rounds each of the last additions.
  const auto rows = torch::ones({64, 1}, torch::kBFloat16);
  const auto weight = torch::full({64}, 1.0 / 64 + 1.0 / 4096);
  const auto plan = make_plan(torch::arange(64, torch::kLong).unsqueeze(0), 64);
  const auto got = combine(rows, plan, weight);
  EXPECT_EQ(got.scalar_type(), torch::kBFloat16);
  EXPECT_EQ(got.item<float>(), 1.015625F);  // 1 + 1/64, exact in bfloat16
}

TEST(MixedTypes, SharedExpertsMayHaveATypeOfTheirOwn) {
  for (const auto shared : kTypes) {
    for (const auto experts : kTypes) {
      torch::manual_seed(24);
      MoE layer(std::make_shared<LinearRouterImpl>(LinearRouterOptions(6, 4).top_k(2)),
                std::make_shared<MlpExpertsImpl>(MlpExpertsOptions(6, 8, 4)), MoEOptions(),
                std::make_shared<MlpExpertsImpl>(MlpExpertsOptions(6, 8, 2)));
      MoE exact(std::dynamic_pointer_cast<MoEImpl>(layer->clone()));
      exact->to(torch::kFloat64);
      layer->experts->to(experts);
      layer->shared_experts->to(shared);
      const auto x = torch::randn({9, 6});
      const auto got = layer->forward(x);
      EXPECT_EQ(got.scalar_type(), experts);
      expect_close(got.detach(), exact->forward(x.to(torch::kFloat64)).detach(),
                   tolerance(narrowest({shared, experts, torch::kFloat32})), "shared");
      got.sum().backward();
      for (const auto& p : layer->parameters()) {
        EXPECT_EQ(p.grad().scalar_type(), p.scalar_type());
      }
    }
  }
}

TEST(MixedTypes, EveryBankTakesTokensOfAnotherType) {
  const auto images = torch::randn({6, 1, 8, 10});
  const auto check = [&](const std::shared_ptr<ExpertsImpl>& bank, const torch::Tensor& x,
                         int64_t size, const char* what) {
    for (const auto type : kTypes) {
      for (const auto of_tokens : kTypes) {
        auto router = std::make_shared<LinearRouterImpl>(
            LinearRouterOptions(size, 2).top_k(1).combine_weights(CombineWeights::kProbs),
            torch::nn::AnyModule(
                torch::nn::Functional([](const torch::Tensor& t) { return t.flatten(1); })));
        bank->to(type);
        MoE layer(router, bank);
        EXPECT_EQ(layer->forward(x.to(of_tokens)).scalar_type(), type) << what;
      }
    }
  };
  check(std::make_shared<LinearExpertsImpl>(LinearExpertsOptions(6, 3, 2)), torch::randn({5, 6}), 6,
        "linear");
  check(std::make_shared<MlpExpertsImpl>(MlpExpertsOptions(6, 3, 2)), torch::randn({5, 6}), 6,
        "mlp");
  check(std::make_shared<PatchExpertsImpl>(PatchExpertsOptions(10, 3, 2)), images, 80, "patch");
  check(std::make_shared<ConvExpertsImpl>(ConvExpertsOptions(
            ConvNetOptions(1, 8, 10).num_networks(2).hidden({5}).blocks({ConvBlock{}}), 3)),
        images, 80, "conv");
}

TEST(MixedTypes, RefusesABankOfSeveralTypesByName) {
  const auto mixed = std::make_shared<MlpExpertsImpl>(MlpExpertsOptions(6, 3, 2));
  mixed->up_bias.set_data(mixed->up_bias.to(torch::kBFloat16));
  MoE layer(std::make_shared<LinearRouterImpl>(LinearRouterOptions(6, 2)), mixed);
  try {
    layer->forward(torch::randn({5, 6}));
    FAIL();
  } catch (const ArgumentError& error) {
    EXPECT_NE(std::string(error.what()).find("up_bias is c10::BFloat16"), std::string::npos)
        << error.what();
  }
  EXPECT_THROW(
      grouped_linear(torch::ones({2, 3}), torch::ones({1, 4, 3}, torch::kFloat64), {}, {0, 2}),
      ArgumentError);
}

}  // namespace
}  // namespace moekit::nn
