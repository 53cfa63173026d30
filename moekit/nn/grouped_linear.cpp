#include "moekit/nn/grouped_linear.h"

#include <torch/autograd.h>

#include <algorithm>

#include "moekit/core/error.h"

namespace moekit::nn {
namespace {

class GroupedLinear : public torch::autograd::Function<GroupedLinear> {
 public:
  static torch::Tensor forward(torch::autograd::AutogradContext* ctx, const torch::Tensor& x,
                               const torch::Tensor& weight, const torch::Tensor& bias,
                               const std::vector<int64_t>& offsets) {
    const bool has_bias = bias.numel() > 0;
    auto y = torch::empty({x.size(0), weight.size(1)}, x.options());
    for (int64_t e = 0; e < weight.size(0); ++e) {
      const int64_t begin = offsets[static_cast<size_t>(e)];
      const int64_t count = offsets[static_cast<size_t>(e) + 1] - begin;
      if (count == 0) continue;
      auto rows = y.narrow(0, begin, count);
      const auto w = weight.select(0, e).t();
      if (has_bias) {
        torch::addmm_out(rows, bias.select(0, e), x.narrow(0, begin, count), w);
      } else {
        torch::mm_out(rows, x.narrow(0, begin, count), w);
      }
    }
    ctx->save_for_backward({x, weight});
    ctx->saved_data["offsets"] = offsets;
    ctx->saved_data["has_bias"] = has_bias;
    ctx->saved_data["wants_x"] = x.requires_grad();
    return y;
  }

  static torch::autograd::variable_list backward(torch::autograd::AutogradContext* ctx,
                                                 torch::autograd::variable_list grads) {
    const auto saved = ctx->get_saved_variables();
    const auto& x = saved[0];
    const auto& weight = saved[1];
    const auto offsets = ctx->saved_data["offsets"].toIntVector();
    const bool has_bias = ctx->saved_data["has_bias"].toBool();
    if (at::GradMode::is_enabled())
      return composed_backward(x, weight, grads[0], offsets, has_bias);
    const auto grad_y = grads[0].contiguous();
    const bool wants_x = ctx->saved_data["wants_x"].toBool();
    auto grad_x = wants_x ? torch::empty_like(x) : torch::Tensor();
    auto grad_weight = torch::empty_like(weight);
    auto grad_bias = has_bias ? torch::empty({weight.size(0), weight.size(1)}, weight.options())
                              : torch::Tensor();
    for (int64_t e = 0; e < weight.size(0); ++e) {
      const int64_t begin = offsets[static_cast<size_t>(e)];
      const int64_t count = offsets[static_cast<size_t>(e) + 1] - begin;
      auto of_weight = grad_weight.select(0, e);
      if (count == 0) {
        of_weight.zero_();
        if (has_bias) grad_bias.select(0, e).zero_();
        continue;
      }
      const auto g = grad_y.narrow(0, begin, count);
      if (wants_x) {
        auto of_x = grad_x.narrow(0, begin, count);
        torch::mm_out(of_x, g, weight.select(0, e));
      }
      torch::mm_out(of_weight, g.t(), x.narrow(0, begin, count));
      if (has_bias) {
        auto of_bias = grad_bias.select(0, e);
        torch::sum_out(of_bias, g, {0});
      }
    }
    return {grad_x, grad_weight, grad_bias, torch::Tensor()};
  }

 private:
  /// The same gradients as operations that can be differentiated again.
  static torch::autograd::variable_list composed_backward(const torch::Tensor& x,
                                                          const torch::Tensor& weight,
                                                          const torch::Tensor& grad_y,
                                                          const std::vector<int64_t>& offsets,
                                                          bool has_bias) {
    torch::autograd::variable_list of_weight;
    torch::autograd::variable_list of_bias;
    for (size_t e = 0; e + 1 < offsets.size(); ++e) {
      const int64_t count = offsets[e + 1] - offsets[e];
      const auto g = grad_y.narrow(0, offsets[e], count);
      of_weight.push_back(torch::mm(g.t(), x.narrow(0, offsets[e], count)));
      if (has_bias) of_bias.push_back(g.sum(0));
    }
    return {grouped_linear(grad_y, weight.transpose(1, 2), {}, offsets), torch::stack(of_weight),
            has_bias ? torch::stack(of_bias) : torch::Tensor(), torch::Tensor()};
  }
};

void check_stack(const char* who, const torch::Tensor& x, const torch::Tensor& weight,
                 const torch::Tensor& bias) {
  MOEKIT_CHECK(weight.dim() == 3, who, ": weight must be [E, O, D]; got ", weight.sizes());
  MOEKIT_CHECK(x.size(-1) == weight.size(2), who, ": x has ", x.size(-1),
               " features; the weights take ", weight.size(2));
  MOEKIT_CHECK(x.scalar_type() == weight.scalar_type() &&
                   (!bias.defined() || bias.scalar_type() == weight.scalar_type()),
               who, ": x, weight and bias must be of one type; got ", x.dtype(), ", ",
               weight.dtype(), " and ", bias.defined() ? bias.dtype() : weight.dtype());
  MOEKIT_CHECK(!bias.defined() || (bias.dim() == 2 && bias.size(0) == weight.size(0) &&
                                   bias.size(1) == weight.size(1)),
               who, ": bias must be [E, O] = [", weight.size(0), ", ", weight.size(1), "]");
}

}  // namespace

torch::Tensor grouped_linear(const torch::Tensor& x, const torch::Tensor& weight,
                             const torch::Tensor& bias, const std::vector<int64_t>& offsets) {
  MOEKIT_CHECK(x.dim() == 2, "grouped_linear: x must be [A, D]; got ", x.sizes());
  check_stack("grouped_linear", x, weight, bias);
  MOEKIT_CHECK(static_cast<int64_t>(offsets.size()) == weight.size(0) + 1 && offsets.front() == 0 &&
                   offsets.back() == x.size(0) && std::is_sorted(offsets.begin(), offsets.end()),
               "grouped_linear: offsets must rise from 0 to ", x.size(0), " in ", weight.size(0),
               " steps");
  // An autograd node takes no undefined tensor: an empty one stands for "no bias".
  return GroupedLinear::apply(x.contiguous(), weight, bias.defined() ? bias : x.new_empty({0}),
                              offsets);
}

torch::Tensor expert_of_rows(const std::vector<int64_t>& offsets) {
  auto expert = torch::empty({offsets.back()}, torch::kLong);
  for (size_t e = 0; e + 1 < offsets.size(); ++e) {
    expert.narrow(0, offsets[e], offsets[e + 1] - offsets[e]).fill_(static_cast<int64_t>(e));
  }
  return expert;
}

torch::Tensor stacked_linear(const torch::Tensor& x, const torch::Tensor& weight,
                             const torch::Tensor& bias) {
  MOEKIT_CHECK(x.dim() == 2 || (x.dim() == 3 && x.size(0) == weight.size(0)),
               "stacked_linear: x must be [N, D] or [E, N, D]; got ", x.sizes());
  check_stack("stacked_linear", x, weight, bias);
  const auto stack = x.dim() == 3 ? x : x.unsqueeze(0).expand({weight.size(0), -1, -1});
  const auto transposed = weight.transpose(1, 2);
  return bias.defined() ? torch::baddbmm(bias.unsqueeze(1), stack, transposed)
                        : torch::bmm(stack, transposed);
}

}  // namespace moekit::nn
