#include "moekit/tensor/operation_counter.h"

#include <gtest/gtest.h>
#include <torch/types.h>

#include "moekit/core/error.h"

namespace moekit::tensor {
namespace {

template <typename Work>
double operations_of(const Work& work) {
  const OperationCounter counter;
  work();
  return counter.total();
}

TEST(OperationCounter, CountsTwoAMultiplyAdd) {
  const auto a = torch::randn({3, 5});
  const auto b = torch::randn({5, 7});
  const auto v = torch::randn({5});
  const double product = 2.0 * 3 * 5 * 7;
  EXPECT_EQ(operations_of([&] { torch::mm(a, b); }), product);
  EXPECT_EQ(operations_of([&] { torch::matmul(a, b); }), product);
  EXPECT_EQ(operations_of([&] { torch::linear(a, b.t().contiguous(), torch::zeros({7})); }),
            product);
  EXPECT_EQ(operations_of([&] { torch::linear(a, b.t().contiguous()); }), product);
  EXPECT_EQ(operations_of([&] { torch::mv(a, v); }), 2.0 * 3 * 5);
  EXPECT_EQ(operations_of([&] { torch::dot(v, v); }), 2.0 * 5);
  auto out = torch::empty({3, 7});
  EXPECT_EQ(operations_of([&] { torch::mm_out(out, a, b); }), product);
  EXPECT_EQ(operations_of([&] { torch::addmm_out(out, torch::zeros({7}), a, b); }), product);
  EXPECT_EQ(operations_of([&] { torch::relu(a) + a; }), 0);
}

TEST(OperationCounter, CountsABatchOnceThoughItIsMadeOfProducts) {
  for (const int size : {2, 40}) {  // small ones and large ones go different ways in libtorch
    const auto a = torch::randn({4, size, 5});
    const auto b = torch::randn({4, 5, size});
    const double product = 2.0 * 4 * size * 5 * size;
    EXPECT_EQ(operations_of([&] { torch::bmm(a, b); }), product);
    EXPECT_EQ(operations_of([&] { torch::matmul(a, b); }), product);
    EXPECT_EQ(operations_of([&] { torch::baddbmm(torch::zeros({1, 1, size}), a, b); }), product);
  }
}

TEST(OperationCounter, CountsConvolutions) {
  // [2, 3, 9, 9] with 6 filters of 3 x 3 over all channels, or over a group of one.
  const auto images = torch::randn({2, 3, 9, 9});
  const auto run = [&](const torch::Tensor& filters, int64_t stride, int64_t padding,
                       int64_t groups) {
    return operations_of([&] {
      torch::convolution(images, filters, {}, {stride, stride}, {padding, padding}, {1, 1}, false,
                         {0, 0}, groups);
    });
  };
  EXPECT_EQ(run(torch::randn({6, 3, 3, 3}), 1, 0, 1), 2.0 * 2 * 7 * 7 * 6 * 27);
  EXPECT_EQ(run(torch::randn({6, 3, 3, 3}), 2, 1, 1), 2.0 * 2 * 5 * 5 * 6 * 27);
  EXPECT_EQ(run(torch::randn({6, 1, 3, 3}), 1, 0, 3), 2.0 * 2 * 7 * 7 * 6 * 9);
  // Strides as one number for both dimensions.
  EXPECT_EQ(operations_of([&] {
              torch::conv2d(images, torch::randn({6, 3, 3, 3}));
            }),
            2.0 * 2 * 7 * 7 * 6 * 27);
  EXPECT_EQ(operations_of([&] {
              torch::conv_transpose2d(images, torch::randn({3, 4, 3, 3}));
            }),
            2.0 * 2 * 3 * 81 * 4 * 9);
}

TEST(OperationCounter, NamesParts) {
  const auto a = torch::randn({2, 2});  // a product: 16 operations
  torch::mm(a, a);                      // before there is a counter
  const CountedPart unheard("nobody listens");
  OperationCounter counter;
  torch::mm(a, a);
  {
    const CountedPart outer("layer");
    torch::mm(a, a);
    {
      const CountedPart inner("router");
      torch::mm(a, a);
      count_operations(3);
    }
    torch::mm(a, a);
  }
  const std::vector<std::pair<std::string, double>> want{
      {"", 16}, {"layer", 32}, {"layer.router", 19}};
  EXPECT_EQ(counter.parts(), want);
  EXPECT_EQ(counter.total(), 67);
}

TEST(OperationCounter, IsOneAThread) {
  {
    const OperationCounter counter;
    EXPECT_THROW(OperationCounter(), ArgumentError);
  }
  const OperationCounter again;
  EXPECT_EQ(again.total(), 0);
}

}  // namespace
}  // namespace moekit::tensor
