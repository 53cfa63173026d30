#include "moekit/nn/soft_moe.h"

#include <cmath>
#include <limits>

#include "moekit/core/error.h"
#include "moekit/nn/parts.h"
#include "moekit/nn/precision.h"
#include "moekit/tensor/operation_counter.h"

namespace moekit::nn {
namespace {

constexpr double kNoDivisionByZero = 1e-6;  // of the released code

torch::Tensor normalized(const torch::Tensor& x, int64_t dim) {
  return x / (x.norm(2, {dim}, true) + kNoDivisionByZero);
}

}  // namespace

SoftMoEImpl::SoftMoEImpl(SoftMoEOptions options_, std::shared_ptr<ExpertsImpl> experts_)
    : options(std::move(options_)), experts(std::move(experts_)) {
  MOEKIT_CHECK(experts != nullptr, "SoftMoE: needs experts");
  MOEKIT_CHECK(experts->token_dim() == 1, "SoftMoE: experts must take vectors [D]");
  MOEKIT_CHECK(options.hidden_size() >= 1 && options.slots_per_expert() >= 1,
               "SoftMoE: hidden_size and slots_per_expert must be at least 1; got ",
               options.hidden_size(), " and ", options.slots_per_expert());
  const int64_t count = experts->num_experts() * options.slots_per_expert();
  slots = register_parameter("slots", torch::empty({options.hidden_size(), count}));
  scale = register_parameter("scale", torch::empty({1}));
  register_part(*this, "experts", experts);
  reset_parameters({});
}

void SoftMoEImpl::reset() {
  slots = register_parameter("slots", slots.detach().clone());
  scale = register_parameter("scale", scale.detach().clone());
  register_copy(*this, "experts", experts);
}

void SoftMoEImpl::reset_parameters(const at::Generator& generator) {
  const torch::NoGradGuard no_grad;
  // Their size does not matter, as they are normalised; this one is of the released code.
  slots.normal_(0, 1 / std::sqrt(static_cast<double>(options.hidden_size())), generator);
  scale.fill_(1);
  experts->reset_parameters(generator);
}

SoftMoEOutput SoftMoEImpl::forward_with_shares(const torch::Tensor& tokens,
                                               const torch::Tensor& mask) {
  MOEKIT_CHECK(tokens.dim() == 3 && tokens.size(2) == options.hidden_size() && tokens.size(1) > 0,
               "SoftMoE: tokens must be [B, T, ", options.hidden_size(), "], T at least 1; got ",
               tokens.sizes());
  MOEKIT_CHECK(
      !mask.defined() || (mask.scalar_type() == torch::kBool && mask.dim() == 2 &&
                          mask.size(0) == tokens.size(0) && mask.size(1) == tokens.size(1)),
      "SoftMoE: the mask must be bool [B, T]");
  const auto type = compute_type(tokens, slots);
  const auto x = tokens.to(type);
  auto logits = tensor::counted("router", [&] {
    return normalized(x, 2).matmul(normalized(slots.to(type), 0) * scale.to(type));
  });
  SoftMoEOutput out;
  out.combine = torch::softmax(logits, 2);
  if (mask.defined()) {
    const auto absent = mask.logical_not().unsqueeze(2);
    // No infinity: the softmax of a sequence without any tokens would be NaN, its gradient too.
    logits = logits.masked_fill(absent, std::numeric_limits<float>::lowest());
    out.dispatch = torch::softmax(logits, 1).masked_fill(absent, 0);
    out.combine = out.combine.masked_fill(absent, 0);
  } else {
    out.dispatch = torch::softmax(logits, 1);
  }
  const int64_t batch = tokens.size(0);
  const auto filled = out.dispatch.transpose(1, 2).matmul(x);  // [B, E * S, D]
  const auto expert = torch::arange(experts->num_experts(), torch::kLong)
                          .repeat_interleave(options.slots_per_expert())
                          .repeat({batch});
  const auto made = tensor::counted("experts", [&] {
    return forward_each(*experts, as_parameters(filled.flatten(0, 1), *experts), expert);
  });
  out.values =
      out.combine.matmul(made.to(type).view({batch, slots.size(1), -1})).to(made.scalar_type());
  return out;
}

}  // namespace moekit::nn
