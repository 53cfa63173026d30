#include <gtest/gtest.h>

#include "moekit/core/error.h"
#include "moekit/tensor/generator.h"
#include "moekit/tensor/tensor_json.h"

namespace moekit::tensor {
namespace {

TEST(MakeGenerator, DrawsTheSameNumbersForOneSeedAndOthersForAnother) {
  const auto draw = [](uint64_t seed) {
    return torch::empty({8}).normal_(0, 1, make_generator(seed));
  };
  EXPECT_TRUE(torch::equal(draw(3), draw(3)));
  EXPECT_FALSE(torch::equal(draw(3), draw(4)));
}

TEST(TensorJson, KeepsWholeNumbersWholeAndTheRestAsDoubles) {
  EXPECT_EQ(to_json_values(torch::tensor({3, -1}, torch::kLong)).dump(), "[3,-1]");
  EXPECT_EQ(to_json_values(torch::tensor({3.0, 0.5}, torch::kFloat32)).dump(), "[3.0,0.5]");
  EXPECT_EQ(to_json_values(torch::tensor({true, false})).dump(), "[1,0]");
  EXPECT_EQ(to_json_values(torch::empty({0})).dump(), "[]");
}

TEST(TensorJson, WritesTablesRowByRowWhateverTheirLayout) {
  const auto table = torch::tensor({{1, 2, 3}, {4, 5, 6}}, torch::kUInt8);
  EXPECT_EQ(to_json_rows(table).dump(), "[[1,2,3],[4,5,6]]");
  EXPECT_EQ(to_json_rows(table.t()).dump(), "[[1,4],[2,5],[3,6]]");
  EXPECT_EQ(to_json_rows(torch::empty({2, 0})).dump(), "[[],[]]");
  EXPECT_EQ(to_json_rows(torch::full({1, 1}, 0.25).requires_grad_()).dump(), "[[0.25]]");
}

TEST(TensorJson, RefusesOtherShapes) {
  EXPECT_THROW(to_json_values(torch::zeros({1, 1})), ArgumentError);
  EXPECT_THROW(to_json_rows(torch::zeros({1})), ArgumentError);
}

}  // namespace
}  // namespace moekit::tensor
