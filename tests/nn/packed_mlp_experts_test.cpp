#include "moekit/nn/experts/packed_mlp_experts.h"

#include <gtest/gtest.h>
#include <torch/torch.h>

#include "moekit/nn/experts/mlp_experts.h"
#include "tests/support/refusal.h"

namespace moekit::nn {
namespace {

const kernels::FfnShape kShape{3, 8, 12, 8, Activation::kSwiglu};

/// A bank, and the float experts it was packed from.
struct Both {
  explicit Both(kernels::WeightFormat format)
      : plain(MlpExpertsOptions(8, 12, 3).activation(Activation::kSwiglu).bias(false)),
        packed(kShape, format) {
    for (int64_t e = 0; e < 3; ++e) {
      packed->set_expert(e, plain->gate_proj[e], plain->up_proj[e], plain->down_proj[e]);
    }
  }
  MlpExperts plain;
  PackedMlpExperts packed;
};

TEST(PackedMlpExperts, ComputeWhatPackedParametersDo) {
  const torch::NoGradGuard no_grad;
  Both both(kernels::WeightFormat::kInt8);
  both.plain->pack(kernels::WeightFormat::kInt8);
  const auto rows = torch::randn({5, 8});
  const auto expert = torch::tensor({2, 0, 1, 1, 2}, torch::kLong);
  EXPECT_TRUE(
      forward_each(*both.packed, rows, expert).equal(forward_each(*both.plain, rows, expert)));
  EXPECT_TRUE(both.packed->forward_all(rows).values.equal(both.plain->forward_all(rows).values));
  EXPECT_TRUE(both.packed->parameters().empty());
}

TEST(PackedMlpExperts, AreTakenInAnotherOrder) {
  const torch::NoGradGuard no_grad;
  Both both(kernels::WeightFormat::kBf16);
  const auto rows = torch::randn({4, 8});
  const auto before = both.packed->forward_all(rows).values;
  ExpertEdit edit(torch::tensor({2, 0}, torch::kLong));
  both.packed->take_experts(edit);
  EXPECT_EQ(both.packed->num_experts(), 3);  // not before the edit is committed
  edit.commit();
  const auto after = both.packed->forward_all(rows).values;
  EXPECT_TRUE(after[0].equal(before[2]));
  EXPECT_TRUE(after[1].equal(before[0]));
}

TEST(PackedMlpExperts, RefuseOtherSizesAndGradients) {
  Both both(kernels::WeightFormat::kF32);
  const auto matrix = torch::zeros({12, 8});
  EXPECT_NE(
      refusal([&] { both.packed->set_expert(0, matrix, matrix, matrix); }).find("down must be"),
      std::string::npos);
  EXPECT_NE(
      refusal([&] { both.packed->set_expert(0, {}, matrix, matrix.t()); }).find("gate must be"),
      std::string::npos);
  EXPECT_NE(refusal([&] { both.packed->set_expert(3, matrix, matrix, matrix.t()); }).find("3"),
            std::string::npos);
  const auto learns = torch::zeros({2, 8}, torch::requires_grad());
  EXPECT_NE(refusal([&] { both.packed->forward_all(learns); }).find("no gradient"),
            std::string::npos);
}

}  // namespace
}  // namespace moekit::nn
