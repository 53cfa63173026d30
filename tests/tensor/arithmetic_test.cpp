#include "moekit/tensor/arithmetic.h"

#include <gtest/gtest.h>
#include <torch/torch.h>

namespace moekit::tensor {

TEST(Arithmetic, DenormalsBecomeZeroOnTheThreadsThatWereAskedFor) {
  start_arithmetic(2);
  EXPECT_EQ(at::get_num_threads(), 2);
  const auto tiny = torch::full({100000}, 1e-30F);
  EXPECT_EQ((tiny * 1e-10F).abs().max().item<float>(), 0.F);  // 1e-40, large enough for all threads
  EXPECT_GT((tiny * 1e-7F).min().item<float>(), 0.F);         // 1e-37 is a normal number
  const auto sum = torch::full({4, 64}, 1e-20F).matmul(torch::full({64, 4}, 1e-22F));
  EXPECT_EQ(sum.abs().max().item<float>(), 0.F);
  start_arithmetic(1);
  EXPECT_EQ(at::get_num_threads(), 1);
}

}  // namespace moekit::tensor
