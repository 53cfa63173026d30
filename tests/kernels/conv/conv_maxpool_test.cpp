#include "moekit/kernels/conv/conv_maxpool.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <random>
#include <vector>

namespace moekit::kernels {
namespace {

struct Problem {
  ConvPoolShape shape;
  std::vector<float> input, weight, bias, grad;
};

Problem make_problem(ConvPoolShape shape) {
  std::mt19937 generator(5);
  std::normal_distribution<float> normal;
  Problem p{shape, {}, {}, {}, {}};
  const auto fill = [&](std::vector<float>& v, int64_t n) {
    for (int64_t i = 0; i < n; ++i) v.push_back(normal(generator));
  };
  fill(p.input, shape.batch * shape.height * shape.width);
  fill(p.weight, shape.channels * 9);
  fill(p.bias, shape.channels);
  fill(p.grad, shape.batch * shape.channels * shape.pooled_height() * shape.pooled_width());
  return p;
}

/// The definition, one output at a time, in double.
void reference(const Problem& p, std::vector<double>& out, std::vector<int>& source,
               std::vector<double>& grad_weight, std::vector<double>& grad_bias) {
  const auto& s = p.shape;
  grad_weight.assign(static_cast<size_t>(s.channels * 9), 0);
  grad_bias.assign(static_cast<size_t>(s.channels), 0);
  out.assign(p.grad.size(), 0);
  source.assign(p.grad.size(), 0);
  for (int64_t n = 0; n < s.batch; ++n) {
    for (int64_t c = 0; c < s.channels; ++c) {
      // [networks, batch, channels of each, height, width]
      const int64_t own = s.channels / s.networks;
      size_t at = static_cast<size_t>(((c / own * s.batch + n) * own + c % own) *
                                      s.pooled_height() * s.pooled_width());
      for (int64_t i = 0; i < s.pooled_height(); ++i) {
        for (int64_t j = 0; j < s.pooled_width(); ++j, ++at) {
          double best = -1e300;
          int where = 0;
          const auto pixel = [&](int a, int64_t k) {
            return p.input[static_cast<size_t>((n * s.height + 2 * i + a / 2 + k / 3) * s.width +
                                               2 * j + a % 2 + k % 3)];
          };
          for (int a = 0; a < 4; ++a) {
            double sum = 0;
            for (int64_t k = 0; k < 9; ++k) {
              sum += static_cast<double>(p.weight[static_cast<size_t>(c * 9 + k)]) * pixel(a, k);
            }
            if (sum > best) {
              best = sum;
              where = a;
            }
          }
          best += p.bias[static_cast<size_t>(c)];
          out[at] = std::max(best, 0.0);
          source[at] = best > 0 ? where : 4;
          if (best <= 0) continue;
          grad_bias[static_cast<size_t>(c)] += static_cast<double>(p.grad[at]);
          for (int64_t k = 0; k < 9; ++k) {
            grad_weight[static_cast<size_t>(c * 9 + k)] +=
                static_cast<double>(p.grad[at]) * pixel(where, k);
          }
        }
      }
    }
  }
}

class ConvMaxPoolTest : public testing::TestWithParam<Isa> {};

TEST_P(ConvMaxPoolTest, MatchesTheDefinitionOnOddSizes) {
  const auto& kernels = conv_maxpool_kernels(GetParam());
  for (const ConvPoolShape shape :
       {ConvPoolShape{2, 28, 28, 5}, ConvPoolShape{1, 4, 4, 1}, ConvPoolShape{3, 5, 19, 2},
        ConvPoolShape{2, 18, 20, 3}, ConvPoolShape{1, 7, 35, 1}, ConvPoolShape{0, 8, 8, 2},
        ConvPoolShape{3, 8, 22, 6, 2}, ConvPoolShape{2, 28, 28, 3, 3}}) {
    const Problem p = make_problem(shape);
    std::vector<double> want;
    std::vector<double> want_grad;
    std::vector<double> want_bias;
    std::vector<int> want_source;
    reference(p, want, want_source, want_grad, want_bias);
    // One value more than needed at the end shows a write past it.
    std::vector<float> out(want.size() + 1, 77);
    std::vector<uint8_t> source(want.size() + 1, 99);
    std::vector<double> grad(want_grad.size() + 1, 0);
    std::vector<double> grad_bias(want_bias.size() + 1, 0);
    kernels.forward(shape, p.input.data(), p.weight.data(), p.bias.data(), out.data(),
                    source.data());
    kernels.backward(shape, p.input.data(), p.grad.data(), source.data(), grad.data(),
                     grad_bias.data());
    for (size_t i = 0; i < want.size(); ++i) {
      ASSERT_NEAR(out[i], want[i], 1e-5) << shape.height << "x" << shape.width << " at " << i;
      ASSERT_EQ(source[i], want_source[i]);
    }
    // Float sums of up to a few hundred terms of size 1.
    for (size_t k = 0; k < want_grad.size(); ++k) ASSERT_NEAR(grad[k], want_grad[k], 1e-3);
    for (size_t c = 0; c < want_bias.size(); ++c) ASSERT_NEAR(grad_bias[c], want_bias[c], 1e-3);
    EXPECT_EQ(out.back(), 77);
    EXPECT_EQ(source.back(), 99);
    EXPECT_EQ(grad.back(), 0);
    EXPECT_EQ(grad_bias.back(), 0);
  }
}

TEST_P(ConvMaxPoolTest, TakesTheFirstOfEqualValues) {
  const ConvPoolShape shape{1, 6, 6, 1};
  const std::vector<float> input(36, 1);
  const std::vector<float> weight(9, 1);
  std::vector<float> out(4);
  std::vector<uint8_t> source(4, 9);
  const float bias = 0;
  conv_maxpool_kernels(GetParam())
      .forward(shape, input.data(), weight.data(), &bias, out.data(), source.data());
  EXPECT_EQ(source, (std::vector<uint8_t>{0, 0, 0, 0}));
  EXPECT_EQ(out, (std::vector<float>{9, 9, 9, 9}));
}

TEST_P(ConvMaxPoolTest, LetsNanThrough) {
  const ConvPoolShape shape{1, 20, 20, 1};
  const std::vector<float> input(400, 1);
  const std::vector<float> weight(9, std::nanf(""));
  std::vector<float> out(81);
  std::vector<uint8_t> source(81);
  const float bias = 0;
  conv_maxpool_kernels(GetParam())
      .forward(shape, input.data(), weight.data(), &bias, out.data(), source.data());
  for (const float value : out) EXPECT_TRUE(std::isnan(value));
}

TEST_P(ConvMaxPoolTest, MomentsMatchTheDefinition) {
  const Problem p = make_problem({2, 9, 21, 1});
  std::vector<double> sum(9, 0);
  std::vector<double> products(81, 0);
  conv_maxpool_kernels(GetParam()).moments(p.shape, p.input.data(), sum.data(), products.data());
  std::vector<double> want_sum(9, 0);
  std::vector<double> want(81, 0);
  for (int64_t n = 0; n < 2; ++n) {
    for (int64_t i = 0; i < 7; ++i) {
      for (int64_t j = 0; j < 19; ++j) {
        const auto pixel = [&](size_t k) {
          return static_cast<double>(
              p.input[static_cast<size_t>((n * 9 + i) * 21 + j) + k / 3 * 21 + k % 3]);
        };
        for (size_t k = 0; k < 9; ++k) {
          want_sum[k] += pixel(k);
          for (size_t l = 0; l < 9; ++l) want[k * 9 + l] += pixel(k) * pixel(l);
        }
      }
    }
  }
  for (size_t k = 0; k < 9; ++k) ASSERT_NEAR(sum[k], want_sum[k], 1e-3);
  for (size_t k = 0; k < 81; ++k) ASSERT_NEAR(products[k], want[k], 2e-3);
}

INSTANTIATE_TEST_SUITE_P(Isa, ConvMaxPoolTest, testing::ValuesIn(supported_isas()),
                         [](const auto& tested) {
                           std::string name(isa_name(tested.param));
                           std::erase(name, '-');
                           return name;
                         });

}  // namespace
}  // namespace moekit::kernels
