#include "moekit/nn/linear_cross_entropy.h"

#include <torch/autograd.h>

#include <algorithm>

#include "moekit/core/error.h"
#include "moekit/nn/composed_gradient.h"
#include "moekit/nn/precision.h"

namespace moekit::nn {
namespace {

// Logits of a block: 4 MiB of floats, which the caches of a core or its share hold. Fewer rows than
// 16 would leave the product a matrix with a vector.
constexpr int64_t kBlockValues = int64_t{1} << 20;
constexpr int64_t kLeastRows = 16;

void check(const char* who, const torch::Tensor& hidden, const torch::Tensor& weight,
           const torch::Tensor& target) {
  MOEKIT_CHECK(hidden.dim() == 2 && weight.dim() == 2 && hidden.size(1) == weight.size(1) &&
                   target.dim() == 1 && target.size(0) == hidden.size(0) &&
                   target.scalar_type() == torch::kLong,
               who, ": wants hidden [N, D], weight [V, D] and target [N] int64; got ",
               hidden.sizes(), ", ", weight.sizes(), " and ", target.sizes(), " ", target.dtype());
  MOEKIT_CHECK(hidden.size(0) >= 1, who, ": there are no rows");
  const auto least = target.min().item<int64_t>();
  const auto most = target.max().item<int64_t>();
  MOEKIT_CHECK(least >= 0 && most < weight.size(0), who, ": targets must be 0..",
               weight.size(0) - 1, "; got ", least < 0 ? least : most);
}

/// Gradients of the mean; undefined where not wanted.
struct MeanGradients {
  torch::Tensor hidden, weight;
};

/// Losses of rows [N]; adds up what is wanted in `gradients`.
torch::Tensor losses_by_block(const torch::Tensor& hidden, const torch::Tensor& weight,
                              const torch::Tensor& target, MeanGradients& gradients) {
  const int64_t rows = hidden.size(0);
  const int64_t block =
      std::min(rows, std::max(kLeastRows, kBlockValues / std::max<int64_t>(weight.size(0), 1)));
  auto losses = torch::empty({rows}, hidden.options());
  auto space = torch::empty({block, weight.size(0)}, hidden.options());
  for (int64_t begin = 0; begin < rows; begin += block) {
    const int64_t count = std::min(block, rows - begin);
    const auto h = hidden.narrow(0, begin, count);
    const auto of = target.narrow(0, begin, count).unsqueeze(1);
    auto logits = space.narrow(0, 0, count);
    torch::mm_out(logits, h, weight.t());
    const auto total = torch::logsumexp(logits, 1, /*keepdim=*/true);
    losses.narrow(0, begin, count).copy_((total - logits.gather(1, of)).squeeze(1));
    if (!gradients.hidden.defined() && !gradients.weight.defined()) continue;
    auto& slope = logits.sub_(total).exp_();  // the softmax, then its distance from the target
    slope.scatter_add_(1, of, torch::full_like(total, -1));
    slope.div_(static_cast<double>(rows));
    if (gradients.hidden.defined()) {
      auto part = gradients.hidden.narrow(0, begin, count);
      torch::mm_out(part, slope, weight);
    }
    if (gradients.weight.defined()) gradients.weight.addmm_(slope.t(), h);
  }
  return losses;
}

class LinearCrossEntropy : public torch::autograd::Function<LinearCrossEntropy> {
 public:
  static torch::Tensor forward(torch::autograd::AutogradContext* ctx, const torch::Tensor& hidden,
                               const torch::Tensor& weight, const torch::Tensor& target,
                               bool learns) {
    MeanGradients gradients;
    if (learns && hidden.requires_grad()) gradients.hidden = torch::empty_like(hidden);
    if (learns && weight.requires_grad()) gradients.weight = torch::zeros_like(weight);
    const auto losses = losses_by_block(hidden, weight, target, gradients);
    ctx->save_for_backward({hidden, weight, target});
    ctx->saved_data["of_hidden"] = gradients.hidden;
    ctx->saved_data["of_weight"] = gradients.weight;
    return losses.mean();
  }

  static torch::autograd::variable_list backward(torch::autograd::AutogradContext* ctx,
                                                 torch::autograd::variable_list grads) {
    const auto saved = ctx->get_saved_variables();
    if (at::GradMode::is_enabled()) {
      const auto& target = saved[2];
      auto found = composed_gradient({saved[0], saved[1]}, grads[0], [&](const auto& in) {
        return torch::nll_loss(torch::log_softmax(in[0].matmul(in[1].t()), 1), target);
      });
      return {found[0], found[1], torch::Tensor(), torch::Tensor()};
    }
    const auto scaled = [&](const char* name) {
      const auto gradient = ctx->saved_data[name].toTensor();
      return gradient.defined() ? gradient * grads[0] : torch::Tensor();
    };
    return {scaled("of_hidden"), scaled("of_weight"), torch::Tensor(), torch::Tensor()};
  }
};

}  // namespace

torch::Tensor linear_cross_entropy(const torch::Tensor& hidden, const torch::Tensor& weight,
                                   const torch::Tensor& target) {
  check("linear_cross_entropy", hidden, weight, target);
  const auto type = compute_type(hidden, weight);
  return LinearCrossEntropy::apply(hidden.to(type).contiguous(), weight.to(type).contiguous(),
                                   target, at::GradMode::is_enabled());
}

torch::Tensor linear_token_losses(const torch::Tensor& hidden, const torch::Tensor& weight,
                                  const torch::Tensor& target) {
  const torch::NoGradGuard no_grad;
  check("linear_token_losses", hidden, weight, target);
  const auto type = compute_type(hidden, weight);
  MeanGradients none;
  return losses_by_block(hidden.to(type).contiguous(), weight.to(type).contiguous(), target, none);
}

}  // namespace moekit::nn
