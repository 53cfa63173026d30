#include "moekit/kernels/patch/patch_responses.h"

#include <gtest/gtest.h>

#include <cmath>
#include <random>
#include <vector>

#include "moekit/core/error.h"

namespace moekit::kernels {
namespace {

struct PatchProblem {
  PatchShape shape;
  std::int64_t count;
  std::vector<float> samples, weight, bias, grad;
  std::vector<std::int64_t> rows;
};

PatchProblem make_patch_problem(PatchShape shape, std::int64_t count) {
  std::mt19937 generator(3);
  std::normal_distribution<float> normal;
  PatchProblem p{shape, count, {}, {}, {}, {}, {}};
  const auto fill = [&](std::vector<float>& v, std::int64_t n) {
    for (std::int64_t i = 0; i < n; ++i) v.push_back(normal(generator));
  };
  fill(p.samples, 2 * count * shape.patches * shape.dim);
  fill(p.weight, shape.classes * shape.filters * shape.dim);
  fill(p.bias, shape.classes * shape.filters);
  fill(p.grad, count * shape.classes);
  for (std::int64_t i = 0; i < count; ++i) p.rows.push_back((7 * i + 1) % (2 * count));
  return p;
}

double act(Activation activation, double z, bool slope) {
  switch (activation) {
    case Activation::kIdentity:
      return slope ? 1 : z;
    case Activation::kRelu:
      return z > 0 ? (slope ? 1 : z) : 0;
    case Activation::kCubic:
      return slope ? 3 * z * z : z * z * z;
    default:
      return std::nan("");
  }
}

/// The definition, in double.
void reference(const PatchProblem& p, std::vector<double>& out, std::vector<double>& grad_weight,
               std::vector<double>& grad_bias) {
  const auto& s = p.shape;
  const std::int64_t filters = s.classes * s.filters;
  out.assign(static_cast<size_t>(p.count * s.classes), 0);
  grad_weight.assign(static_cast<size_t>(filters * s.dim), 0);
  grad_bias.assign(static_cast<size_t>(filters), 0);
  for (std::int64_t i = 0; i < p.count; ++i) {
    for (std::int64_t q = 0; q < s.patches; ++q) {
      const float* x = p.samples.data() + (p.rows[static_cast<size_t>(i)] * s.patches + q) * s.dim;
      for (std::int64_t f = 0; f < filters; ++f) {
        double z = p.bias[static_cast<size_t>(f)];
        for (std::int64_t k = 0; k < s.dim; ++k) {
          z += static_cast<double>(p.weight[static_cast<size_t>(f * s.dim + k)]) * x[k];
        }
        const auto at = static_cast<size_t>(i * s.classes + f / s.filters);
        out[at] += act(s.activation, z, false);
        const double g = act(s.activation, z, true) * p.grad[at];
        grad_bias[static_cast<size_t>(f)] += g;
        for (std::int64_t k = 0; k < s.dim; ++k) {
          grad_weight[static_cast<size_t>(f * s.dim + k)] += g * x[k];
        }
      }
    }
  }
}

template <typename Got>
void expect_near(const std::vector<Got>& got, const std::vector<double>& want, const char* what) {
  double scale = 0;
  for (const double w : want) scale = std::max(scale, std::abs(w));
  ASSERT_EQ(got.size(), want.size());
  for (size_t i = 0; i < want.size(); ++i) {
    ASSERT_NEAR(static_cast<double>(got[i]), want[i], 1e-5 * scale) << what << " " << i;
  }
}

TEST(PatchResponses, EveryInstructionSetGivesTheDefinition) {
  for (const Isa isa : supported_isas()) {
    SCOPED_TRACE(isa_name(isa));
    const auto& kernels = patch_responses_kernels(isa);
    for (const auto activation : {Activation::kIdentity, Activation::kRelu, Activation::kCubic}) {
      for (const auto& [patches, dim, classes, filters, count] :
           {std::array<std::int64_t, 5>{4, 50, 2, 8, 130},
            {1, 7, 3, 5, 64},
            {3, 16, 2, 20, 65},
            {6, 9, 1, 1, 3},
            {9, 5, 4, 7, 1},
            {4, 13, 2, 32, 70},  // two vectors of 16 filters
            {4, 13, 2, 24, 70},  // three
            {200, 11, 2, 3, 5},  // more patches than a group
            {4, 50, 2, 8, 0}}) {
        const auto p = make_patch_problem({patches, dim, classes, filters, activation}, count);
        std::vector<double> out;
        std::vector<double> grad_weight;
        std::vector<double> grad_bias;
        reference(p, out, grad_weight, grad_bias);
        std::vector<float> got(out.size());
        std::vector<double> got_weight(grad_weight.size());
        std::vector<double> got_bias(grad_bias.size());
        kernels.forward(p.shape, p.samples.data(), p.rows.data(), count, p.weight.data(),
                        p.bias.data(), got.data());
        kernels.backward(p.shape, p.samples.data(), p.rows.data(), count, p.weight.data(),
                         p.bias.data(), p.grad.data(), got_weight.data(), got_bias.data());
        expect_near(got, out, "output");
        expect_near(got_weight, grad_weight, "grad_weight");
        expect_near(got_bias, grad_bias, "grad_bias");
      }
    }
  }
}

TEST(PatchResponses, RefusesActivationsItHasNoCodeFor) {
  for (const auto& [activation, name] : EnumNames<Activation>::kTable) {
    const bool known = name == "identity" || name == "relu" || name == "cubic";
    EXPECT_EQ(has_patch_kernel(activation), known) << name;
    auto p = make_patch_problem({2, 3, 2, 1, activation}, 4);
    std::vector<float> output(8);
    const auto run = [&] {
      patch_responses_forward(p.shape, p.samples.data(), p.rows.data(), 4, p.weight.data(),
                              p.bias.data(), output.data());
    };
    if (known) {
      EXPECT_NO_THROW(run()) << name;
    } else {
      EXPECT_THROW(run(), ArgumentError) << name;
    }
  }
}

TEST(PatchResponses, TakesSamplesInOrderWithoutRows) {
  auto p = make_patch_problem({4, 10, 2, 3, Activation::kCubic}, 20);
  for (std::int64_t i = 0; i < 20; ++i) p.rows[static_cast<size_t>(i)] = i;
  std::vector<float> with(40);
  std::vector<float> without(40);
  patch_responses_forward(p.shape, p.samples.data(), p.rows.data(), 20, p.weight.data(),
                          p.bias.data(), with.data());
  patch_responses_forward(p.shape, p.samples.data(), nullptr, 20, p.weight.data(), p.bias.data(),
                          without.data());
  EXPECT_EQ(with, without);
}

TEST(PatchResponses, NanComesOutAsNan) {
  for (const auto activation : {Activation::kIdentity, Activation::kRelu, Activation::kCubic}) {
    auto p = make_patch_problem({2, 5, 2, 3, activation}, 3);
    p.samples[static_cast<size_t>(p.rows[1] * 10 + 7)] = std::nanf("");
    std::vector<float> out(6);
    for (const auto isa : supported_isas()) {
      patch_responses_kernels(isa).forward(p.shape, p.samples.data(), p.rows.data(), p.count,
                                           p.weight.data(), p.bias.data(), out.data());
      for (size_t i = 0; i < 6; ++i) {
        EXPECT_EQ(std::isnan(out[i]), i / 2 == 1) << enum_name(activation) << " " << i;
      }
    }
  }
}

}  // namespace
}  // namespace moekit::kernels
