// What each kind of experts refuses, word by word, with the values that are just taken.
#include <gtest/gtest.h>
#include <torch/torch.h>

#include "moekit/nn/experts/conv_experts.h"
#include "moekit/nn/experts/expert_list.h"
#include "moekit/nn/experts/linear_experts.h"
#include "moekit/nn/experts/matrix_product_experts.h"
#include "moekit/nn/experts/mlp_experts.h"
#include "moekit/nn/experts/patch_experts.h"
#include "moekit/nn/experts/zero_computation_experts.h"
#include "tests/support/refusal.h"

namespace moekit::nn {
namespace {

const std::string kExpertsTaken = "nothing was thrown";

template <typename Experts, typename Options>
std::string experts_refused(const Options& options) {
  return refusal([&] { Experts experts(options); });
}

TEST(ExpertRefusals, OfNetworksInRecipes) {
  const auto told = [](const std::vector<ConvBlock>& conv, const std::vector<int64_t>& hidden) {
    return refusal([&] { check_net({conv, hidden}, {1, 8, 11}, "net"); });
  };
  EXPECT_EQ(told({}, {1}), kExpertsTaken);
  EXPECT_EQ(told({}, {}), "net.hidden: needs at least one size");
  EXPECT_EQ(told({}, {3, 0}), "net.hidden: sizes must be at least 1; got 0");
  EXPECT_EQ(told({{1, 1, 0, false}}, {1}), kExpertsTaken);
  const std::string sizes = ": channels and kernel_size must be at least 1, padding at least 0";
  EXPECT_EQ(told({{0, 1, 0, false}}, {1}), "net.conv[0]" + sizes);
  EXPECT_EQ(told({{1, 1, 0, false}, {1, 0, 0, false}}, {1}), "net.conv[1]" + sizes);
  EXPECT_EQ(told({{1, 1, -1, false}}, {1}), "net.conv[0]" + sizes);
  // 8x11: a kernel of 7 leaves 2x5 before the pool, one of 8 a row that the pool takes away.
  EXPECT_EQ(told({{1, 7, 0, false}}, {1}), kExpertsTaken);
  EXPECT_EQ(told({{1, 8, 0, false}}, {1}), "net.conv[0]: leaves no pixel of a 8x11 image");
  EXPECT_EQ(told({{1, 8, 1, false}}, {1}), kExpertsTaken);
  EXPECT_EQ(told({{1, 3, 0, false}, {1, 2, 0, false}}, {1}), kExpertsTaken);  // 3x4, 1x1
  EXPECT_EQ(told({{1, 3, 0, false}, {1, 3, 0, false}}, {1}),
            "net.conv[1]: leaves no pixel of a 8x11 image");
  EXPECT_EQ(refusal([&] {
              check_net({{{1, 3, 0, false}}, {1}}, {1, 20, 3}, "net");
            }),
            "net.conv[0]: leaves no pixel of a 20x3 image");
}

TEST(ExpertRefusals, OfConvolutionalNetworks) {
  const auto told = [](const ConvNetOptions& options) {
    return experts_refused<ConvNetStack>(options);
  };
  const ConvNetOptions o(2, 8, 11);
  EXPECT_EQ(told(ConvNetOptions(o).hidden({1})), kExpertsTaken);
  EXPECT_EQ(told(o), "ConvNet: needs at least one fully connected layer");
  EXPECT_EQ(told(ConvNetOptions(o).hidden({2, 0})),
            "ConvNet: hidden sizes must be at least 1; got 0");
  EXPECT_EQ(told(ConvNetOptions(o).hidden({1}).num_networks(0)),
            "ConvNet: num_networks must be at least 1; got 0");
  const auto with = [&](const ConvBlock& block) {
    return told(ConvNetOptions(o).hidden({1}).blocks({{1, 1, 0, false}, block}));  // 4x5
  };
  EXPECT_EQ(with({1, 3, 0, false}), kExpertsTaken);
  EXPECT_EQ(with({0, 3, 0, false}), "ConvNet: block 1 has channels 0, kernel_size 3, padding 0");
  EXPECT_EQ(with({1, 0, 2, false}), "ConvNet: block 1 has channels 1, kernel_size 0, padding 2");
  EXPECT_EQ(with({1, 3, -1, false}), "ConvNet: block 1 has channels 1, kernel_size 3, padding -1");
  EXPECT_EQ(with({1, 4, 0, false}), "ConvNet: block 1 leaves no pixel of a 8x11 image");
  EXPECT_EQ(with({1, 4, 1, false}), kExpertsTaken);
  EXPECT_EQ(told(ConvNetOptions(2, 20, 3).hidden({1}).blocks({{1, 3, 0, false}})),
            "ConvNet: block 0 leaves no pixel of a 20x3 image");
  ConvNetStack net(ConvNetOptions(o).hidden({3}).num_networks(2));
  const std::string wanted = "ConvNet: images must be [N, 2, 8, 11]; got ";
  const auto forward = [&](at::IntArrayRef sizes) {
    return refusal([&] { net->forward(torch::zeros(sizes)); });
  };
  EXPECT_EQ(forward({3, 2, 8, 11}), kExpertsTaken);
  EXPECT_EQ(forward({2, 8, 11}), wanted + "[2, 8, 11]");
  EXPECT_EQ(forward({3, 1, 8, 11}), wanted + "[3, 1, 8, 11]");
  EXPECT_EQ(forward({3, 2, 9, 11}), wanted + "[3, 2, 9, 11]");
  EXPECT_EQ(forward({3, 2, 8, 10}), wanted + "[3, 2, 8, 10]");
  const auto x = torch::zeros({3, 2, 8, 11});
  EXPECT_EQ(refusal([&] { net->forward_routed(x, {0, 1, 3}); }), kExpertsTaken);
  EXPECT_EQ(refusal([&] {
              net->forward_routed(x, {0, 3});
            }),
            "ConvNet: offsets must have 3 entries; got 2");
  EXPECT_EQ(refusal([&] { ConvTrunk(ConvNetOptions(o).hidden({1}).num_networks(2), true); }),
            "ConvTrunk: is one network; got num_networks 2");
  EXPECT_EQ(experts_refused<ConvExperts>(ConvExpertsOptions(ConvNetOptions(o).hidden({1}), 1)),
            kExpertsTaken);
  EXPECT_EQ(experts_refused<ConvExperts>(ConvExpertsOptions(ConvNetOptions(o).hidden({1}), 0)),
            "ConvExperts: output_size must be at least 1; got 0");
  EXPECT_EQ(refusal([] {
              check_conv_experts({}, LayerSite{{5}, 2, 3}, "e");
            }),
            "e.kind = \"conv\" takes images; these are vectors");
  EXPECT_EQ(refusal([] {
              check_conv_experts({{{}, {}}}, LayerSite{{1, 8, 8}, 2, 3}, "e");
            }),
            "e.net.hidden: needs at least one size");
}

TEST(ExpertRefusals, OfLists) {
  EXPECT_EQ(refusal([] { ExpertList(std::vector<torch::nn::AnyModule>{}, 4); }),
            "ExpertList: needs at least one expert");
  const std::vector<torch::nn::AnyModule> two = {torch::nn::AnyModule(torch::nn::Linear(3, 4)),
                                                 torch::nn::AnyModule(torch::nn::Linear(3, 5))};
  ExpertList list(two, 4);
  EXPECT_EQ(refusal([&] {
              list->forward_all(torch::zeros({2, 3}));
            }),
            "ExpertList: expert 1 must give [2, 4]; got [2, 5]");
  EXPECT_EQ(refusal([&] {
              list->forward_all(torch::zeros({2, 1, 3}));
            }),
            "ExpertList: expert 0 must give [2, 4]; got [2, 1, 4]");
}

TEST(ExpertRefusals, OfLinearExperts) {
  const auto told = [](int64_t hidden, int64_t output, int64_t experts) {
    return experts_refused<LinearExperts>(LinearExpertsOptions(hidden, output, experts));
  };
  const std::string wanted = "LinearExperts: sizes must be at least 1; got ";
  EXPECT_EQ(told(1, 1, 1), kExpertsTaken);
  EXPECT_EQ(told(0, 2, 3), wanted + "hidden_size 0, output_size 2, num_experts 3");
  EXPECT_EQ(told(1, 0, 3), wanted + "hidden_size 1, output_size 0, num_experts 3");
  EXPECT_EQ(told(1, 2, 0), wanted + "hidden_size 1, output_size 2, num_experts 0");
}

TEST(ExpertRefusals, OfFeedForwardExperts) {
  using O = MlpExpertsOptions;
  const auto told = [](const O& options) { return experts_refused<MlpExperts>(options); };
  const std::string wanted = "MlpExperts: sizes must be at least 1; got ";
  EXPECT_EQ(told(O(1, 1, 1)), kExpertsTaken);
  EXPECT_EQ(told(O(0, 2, 3).output_size(4)),
            wanted + "hidden_size 0, intermediate_size 2, num_experts 3, output_size 4");
  EXPECT_EQ(told(O(1, 0, 3)),
            wanted + "hidden_size 1, intermediate_size 0, num_experts 3, output_size 1");
  EXPECT_EQ(told(O(1, 2, 0)),
            wanted + "hidden_size 1, intermediate_size 2, num_experts 0, output_size 1");
  EXPECT_EQ(told(O(1, 2, 3).output_size(0)),
            wanted + "hidden_size 1, intermediate_size 2, num_experts 3, output_size 0");
  const auto ternary = O(3, 4, 2).weights(WeightLevels::kTernary);
  EXPECT_EQ(told(ternary), kExpertsTaken);
  EXPECT_EQ(told(O(3, 4, 2).compute(kernels::ComputeType::kBf16).keep_activations(false)),
            kExpertsTaken);
  EXPECT_EQ(told(O(ternary).compute(kernels::ComputeType::kBf16)),
            "MlpExperts: compute = \"bf16\" has no effect with weights = \"ternary\"");
  EXPECT_EQ(told(O(ternary).keep_activations(false)),
            "MlpExperts: keep_activations = false has no effect with weights = \"ternary\"");
  MlpExperts rounded(ternary);
  EXPECT_EQ(rounded->why_not_fused(torch::zeros({2, 3})),
            "weights = \"ternary\" are learned without a kernel");
  EXPECT_EQ(refusal([&] { rounded->pack(kernels::WeightFormat::kF32); }),
            "MlpExperts: weights = \"ternary\" are packed as \"ternary\" alone; got \"f32\"");
}

TEST(ExpertRefusals, OfPackedExperts) {
  MlpExperts experts(MlpExpertsOptions(3, 4, 2));
  experts->pack(kernels::WeightFormat::kF32);
  ASSERT_NE(experts->packed(), nullptr);
  EXPECT_EQ(experts->why_not_fused(torch::zeros({2, 3})), "");
  const auto plan = make_plan(torch::tensor({{0}, {1}}), 2);
  const auto told = [&](const torch::Tensor& tokens, const torch::Tensor& weight) {
    return refusal([&] { experts->forward_fused(tokens, plan, weight, Runtime::standard()); });
  };
  const auto x = torch::zeros({2, 3});
  const auto ones = torch::ones({2});
  const std::string gradient = "MlpExperts: packed experts have no gradient; unpack() them first";
  EXPECT_EQ(told(x, ones), kExpertsTaken);
  EXPECT_EQ(told(torch::zeros({2, 3}).requires_grad_(), ones), gradient);
  EXPECT_EQ(told(x, torch::ones({2}).requires_grad_()), gradient);
  {
    const torch::NoGradGuard no_grad;
    EXPECT_EQ(told(torch::zeros({2, 3}).requires_grad_(), ones), kExpertsTaken);
  }
  const std::string wanted = "MlpExperts: packed experts take float tokens [N, 3] on the CPU; got ";
  EXPECT_EQ(told(torch::zeros({2, 4}), ones), wanted + "float [2, 4]");
  EXPECT_EQ(told(torch::zeros({6}), ones), wanted + "float [6]");
  EXPECT_EQ(told(torch::zeros({2, 3}, torch::kFloat64), ones), wanted + "double [2, 3]");
  // Drawing anew, taking experts and networks unpack.
  experts->reset_parameters({});
  EXPECT_EQ(experts->packed(), nullptr);
  experts->pack(kernels::WeightFormat::kF32);
  ExpertEdit edit(torch::tensor({1}));
  experts->take_experts(edit);
  EXPECT_NE(experts->packed(), nullptr);
  edit.commit();
  EXPECT_EQ(experts->packed(), nullptr);
  MlpExperts doubles(MlpExpertsOptions(3, 4, 2));
  doubles->to(torch::kFloat64);
  EXPECT_EQ(refusal([&] { doubles->pack(kernels::WeightFormat::kF32); }),
            "MlpExperts: parameters are double on cpu; float on the CPU are packed");
}

TEST(ExpertRefusals, OfExpertsWithoutComputation) {
  using O = ZeroComputationOptions;
  const auto options = [](int64_t constant, int64_t copy, int64_t zero) {
    O out;
    out.mlp = MlpExpertsOptions(5, 7, 2);
    out.constant_experts(constant).copy_experts(copy).zero_experts(zero);
    return out;
  };
  const auto told = [&](int64_t constant, int64_t copy, int64_t zero) {
    return experts_refused<ZeroComputationExperts>(options(constant, copy, zero));
  };
  const std::string who = "ZeroComputationExperts: ";
  const std::string wants = "wants an expert without computation; got ";
  EXPECT_EQ(told(1, 0, 0), kExpertsTaken);
  EXPECT_EQ(told(0, 1, 0), kExpertsTaken);
  EXPECT_EQ(told(0, 0, 1), kExpertsTaken);
  EXPECT_EQ(told(0, 0, 0), who + wants + "0 constant, 0 copy and 0 zero experts");
  EXPECT_EQ(told(-1, 2, 1), who + wants + "-1 constant, 2 copy and 1 zero experts");
  EXPECT_EQ(told(2, -1, 1), who + wants + "2 constant, -1 copy and 1 zero experts");
  EXPECT_EQ(told(2, 1, -1), who + wants + "2 constant, 1 copy and -1 zero experts");
  auto other = options(1, 1, 1);
  other.mlp.output_size(6);
  EXPECT_EQ(experts_refused<ZeroComputationExperts>(other),
            who + "a copy has the token's size, 5; output_size is 6");
  const auto checked = [&](const LayerSite& site) {
    return refusal([&] { check_zero_computation_experts(options(2, 1, 1), site, "e"); });
  };
  EXPECT_EQ(checked(LayerSite{{5}, 5, 5}), kExpertsTaken);
  EXPECT_EQ(
      checked(LayerSite{{5}, 4, 5}),
      "e: wants a feed-forward expert beside the 4 constant, copy and zero experts; there are "
      "4 in all");
  EXPECT_EQ(checked(LayerSite{{5}, 5, 4}),
            "e.kind = \"zero_computation\" wants tokens of the outputs' size 4");
  EXPECT_EQ(checked(LayerSite{{1, 1, 5}, 5, 5}),
            "e.kind = \"zero_computation\" wants tokens of the outputs' size 5");
  EXPECT_EQ(make_zero_computation_experts(options(2, 1, 1), LayerSite{{5}, 7, 5})->num_computing(),
            3);
  ZeroComputationExperts experts(options(1, 1, 1));
  const auto taken = [&](const std::vector<int64_t>& index) {
    ExpertEdit edit(torch::tensor(index, torch::kLong));
    return refusal([&] { experts->take_experts(edit); });
  };
  const std::string place =
      "ZeroComputationExperts: experts cannot be left out or exchanged: an expert's place says "
      "what "
      "it is";
  EXPECT_EQ(taken({0, 1, 2, 3, 4}), kExpertsTaken);
  EXPECT_EQ(taken({0, 1, 2, 3}), place);
  EXPECT_EQ(taken({0, 1, 2, 4, 3}), place);
  EXPECT_EQ(taken({0, 1, 2, 3, 4, 4}), place);
}

TEST(ExpertRefusals, OfPatchExperts) {
  using O = PatchExpertsOptions;
  const auto told = [](const O& options) { return experts_refused<PatchExperts>(options); };
  const std::string wanted = "PatchExperts: sizes must be at least 1; got ";
  EXPECT_EQ(told(O(1, 1, 1).num_filters(1)), kExpertsTaken);
  EXPECT_EQ(told(O(0, 1, 2)), wanted + "dim 0, num_classes 1, num_experts 2, num_filters 8");
  EXPECT_EQ(told(O(3, 0, 2)), wanted + "dim 3, num_classes 0, num_experts 2, num_filters 8");
  EXPECT_EQ(told(O(3, 1, 0)), wanted + "dim 3, num_classes 1, num_experts 0, num_filters 8");
  EXPECT_EQ(told(O(3, 1, 2).num_filters(0)),
            wanted + "dim 3, num_classes 1, num_experts 2, num_filters 0");
  EXPECT_EQ(told(O(3, 1, 2).activation(Activation::kSwiglu)),
            "PatchExperts: activation \"swiglu\" is a gated one; wanted a plain one");
  PatchExperts experts(O(3, 2, 2));
  const auto forward = [&](const torch::Tensor& samples) {
    return refusal([&] { experts->forward_all(samples); });
  };
  EXPECT_EQ(forward(torch::zeros({2, 4, 3})), kExpertsTaken);
  const std::string samples = "PatchExperts: samples must be [N, P, 3] float; got ";
  EXPECT_EQ(forward(torch::zeros({2, 3})), samples + "[2, 3] float");
  EXPECT_EQ(forward(torch::zeros({2, 4, 2})), samples + "[2, 4, 2] float");
  EXPECT_EQ(forward(torch::zeros({2, 4, 3}, torch::kFloat64)), samples + "[2, 4, 3] double");
  const auto checked = [](const O& options, const LayerSite& site) {
    return refusal([&] { check_patch_experts(options, site, "e"); });
  };
  const LayerSite rows{{1, 4, 3}, 2, 2};
  EXPECT_EQ(checked(O(), rows), kExpertsTaken);
  EXPECT_EQ(checked(O(), LayerSite{{2, 4, 3}, 2, 2}),
            "e.kind = \"patch\" takes one-channel samples, each row a patch; got 2 channels");
  EXPECT_EQ(checked(O(), LayerSite{{3}, 2, 2}),
            "e.kind = \"patch\" takes one-channel samples, each row a patch; got vectors");
  EXPECT_EQ(checked(O().num_filters(1).init_scale(0.5), rows), kExpertsTaken);
  EXPECT_EQ(checked(O().num_filters(0), rows),
            "e: num_filters must be at least 1 and init_scale positive; got 0 and 1");
  EXPECT_EQ(checked(O().init_scale(0), rows),
            "e: num_filters must be at least 1 and init_scale positive; got 8 and 0");
  EXPECT_EQ(checked(O().activation(Activation::kGeglu), rows),
            "e.activation: \"geglu\" is a gated one, which patch experts do not take");
}

TEST(ExpertRefusals, OfMatrixProducts) {
  const auto options = [] {
    MatrixProductOptions out;
    out.mlp = MlpExpertsOptions(16, 24, 2);
    return out;
  };
  const auto told = [&](auto change) {
    auto own = options();
    change(own);
    return experts_refused<MatrixProductExperts>(own);
  };
  using O = MatrixProductOptions;
  const std::string who = "MatrixProductExperts: ";
  EXPECT_EQ(told([](O&) {}), kExpertsTaken);
  const std::string together = "token_factors and hidden_factors are given together or not at all";
  EXPECT_EQ(told([](O& o) { o.token_factors({2, 4, 2}); }), who + together);
  EXPECT_EQ(told([](O& o) { o.hidden_factors({2, 4, 3}); }), who + together);
  EXPECT_EQ(told([](O& o) {
              o.token_factors({2, 4, 2}).hidden_factors({2, 4, 3});
            }),
            kExpertsTaken);
  EXPECT_EQ(told([](O& o) {
              o.token_factors({2, 4, 2}).hidden_factors({2, 4, 2});
            }),
            who + "hidden_factors make up 16; intermediate_size is 24");
  EXPECT_EQ(told([](O& o) {
              o.token_factors({2, 2, 2}).hidden_factors({2, 4, 3});
            }),
            who + "token_factors make up 8; tokens have 16");
  EXPECT_EQ(told([](O& o) { o.mlp.weights(WeightLevels::kBinary); }),
            who +
                "weights must be \"float\": products of rounded tensors are not rounded; got "
                "\"binary\"");
  EXPECT_EQ(told([](O& o) { o.mlp.init(ExpertInit::kZeroOutput); }),
            who +
                "init must be \"default\": tensors of a matrix of zeros have no gradient; got "
                "\"zero_output\"");
  EXPECT_EQ(told([](O& o) { o.mlp.output_size(8); }),
            who + "outputs must have the tokens' size 16; got 8");
  EXPECT_EQ(refusal([&] {
              check_matrix_product_experts(options(), LayerSite{{1, 4, 4}, 2, 16}, "e");
            }),
            "e.kind = \"matrix_product\" wants tokens that are vectors");
  EXPECT_EQ(refusal([&] {
              check_matrix_product_experts(options(), LayerSite{{16}, 2, 8}, "e");
            }),
            "e.outputs must have the tokens' size 16; got 8");
  EXPECT_EQ(refusal([&] {
              check_matrix_product_experts(options(), LayerSite{{12}, 2, 12}, "e");
            }),
            kExpertsTaken);
  MatrixProductExperts experts(options());
  MlpExperts unlike(MlpExpertsOptions(16, 24, 2));
  EXPECT_EQ(refusal([&] {
              experts->set_networks(
                  {{}, unlike->up_proj, unlike->down_proj, {}, unlike->up_bias, unlike->down_bias});
            }),
            "experts of matrix products begin as one network: wants whole copies without noise");
}

}  // namespace
}  // namespace moekit::nn
