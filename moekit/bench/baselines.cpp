#include "moekit/bench/baselines.h"

#include <ATen/Context.h>
#include <torch/autograd.h>
#include <torch/nn/functional/activation.h>
#include <torch/nn/modules/linear.h>

#include "moekit/nn/fused_ffn.h"
#include "moekit/nn/routing.h"

namespace moekit::bench {
namespace {

struct ExpertModule {
  ExpertModule(std::int64_t d, std::int64_t f)
      : gate(linear(d, f)), up(linear(d, f)), down(linear(f, d)) {}
  torch::Tensor forward(const torch::Tensor& x) {
    return down->forward(torch::silu(gate->forward(x)) * up->forward(x));
  }
  void drop_gradients() {
    for (auto* part : {&gate, &up, &down}) (*part)->weight.mutable_grad() = torch::Tensor();
  }
  static torch::nn::Linear linear(std::int64_t in, std::int64_t out) {
    return torch::nn::Linear(torch::nn::LinearOptions(in, out).bias(false));
  }
  torch::nn::Linear gate, up, down;
};

Baseline module_per_expert(const LayerShape& shape, Pass pass, std::int64_t layers) {
  using Bank = std::vector<ExpertModule>;
  auto banks = std::make_shared<std::vector<Bank>>(static_cast<size_t>(layers));
  for (auto& bank : *banks) {
    for (std::int64_t e = 0; e < shape.num_experts; ++e) {
      bank.emplace_back(shape.hidden_size, shape.intermediate_size);
    }
    if (shape.shared_size > 0) bank.emplace_back(shape.hidden_size, shape.shared_size);
  }
  const std::int64_t num_experts = shape.num_experts;
  return {"libtorch, module per expert",
          [banks, pass, num_experts](std::int64_t layer, const torch::Tensor& x,
                                     const torch::Tensor& index, const torch::Tensor& weight) {
            const at::AutoGradMode mode(pass == Pass::kTrain);
            auto& bank = (*banks)[static_cast<size_t>(layer)];
            auto tokens = x.detach().requires_grad_(pass == Pass::kTrain);
            auto weights = weight.detach().requires_grad_(pass == Pass::kTrain);
            const auto plan = nn::make_plan(index, num_experts);
            const auto token = nn::plan_tokens(plan);
            const auto assignment = nn::plan_assignments(plan);
            auto y = torch::zeros_like(x);
            for (std::int64_t e = 0; e < num_experts; ++e) {
              if (plan.count(e) == 0) continue;
              const auto at = plan.offsets[static_cast<size_t>(e)];
              const auto rows = token.narrow(0, at, plan.count(e));
              const auto of =
                  weights.reshape({-1}).index_select(0, assignment.narrow(0, at, plan.count(e)));
              const auto out = bank[static_cast<size_t>(e)].forward(tokens.index_select(0, rows));
              y = y.index_add(0, rows, out * of.unsqueeze(1));
            }
            if (bank.size() > static_cast<size_t>(num_experts)) y = y + bank.back().forward(tokens);
            if (pass != Pass::kTrain) return;
            y.backward(torch::ones_like(y));
            for (auto& expert : bank) expert.drop_gradients();
          }};
}

Baseline dense(const LayerShape& shape, Pass pass, torch::ScalarType type, std::string name) {
  const auto make = [&](std::int64_t out, std::int64_t in) {
    return (torch::randn({out, in}) * 0.02).to(type).requires_grad_(pass == Pass::kTrain);
  };
  const auto gate = make(shape.intermediate_size, shape.hidden_size);
  const auto up = make(shape.intermediate_size, shape.hidden_size);
  const auto down = make(shape.hidden_size, shape.intermediate_size);
  const std::int64_t top_k = shape.top_k;
  return {std::move(name),
          [=](std::int64_t, const torch::Tensor& x, const torch::Tensor&, const torch::Tensor&) {
            const at::AutoGradMode mode(pass == Pass::kTrain);
            auto tokens = x.repeat({top_k, 1}).to(type).requires_grad_(pass == Pass::kTrain);
            const auto hidden = torch::silu(at::linear(tokens, gate)) * at::linear(tokens, up);
            const auto y = at::linear(hidden, down);
            if (pass != Pass::kTrain) return;
            y.backward(torch::ones_like(y));
            for (const auto& p : {gate, up, down}) p.mutable_grad() = torch::Tensor();
          }};
}

Baseline autograd_node(const LayerShape& shape, std::int64_t layers) {
  struct Layer {
    nn::FfnParameters parameters;
    nn::FusedFfn fused;
  };
  auto all = std::make_shared<std::vector<Layer>>(static_cast<size_t>(layers));
  for (auto& layer : *all) {
    const auto make = [&](std::int64_t out, std::int64_t in) {
      return (torch::randn({1, out, in}) * 0.02)
          .expand({shape.num_experts, -1, -1})
          .contiguous()
          .requires_grad_();
    };
    layer.parameters.gate = make(shape.intermediate_size, shape.hidden_size);
    layer.parameters.up = make(shape.intermediate_size, shape.hidden_size);
    layer.parameters.down = make(shape.hidden_size, shape.intermediate_size);
  }
  const std::int64_t num_experts = shape.num_experts;
  return {"moekit autograd",
          [all, num_experts](std::int64_t l, const torch::Tensor& x, const torch::Tensor& index,
                             const torch::Tensor& weight) {
            auto& layer = (*all)[static_cast<size_t>(l)];
            auto tokens = x.detach().requires_grad_();
            auto weights = weight.detach().requires_grad_();
            const auto plan = nn::make_plan(index, num_experts);
            const auto y =
                layer.fused.forward(tokens, layer.parameters, plan, weights.flatten(),
                                    nn::Activation::kSwiglu, kernels::ComputeType::kF32, true);
            y.backward(torch::ones_like(y));
            for (auto* p : {&layer.parameters.gate, &layer.parameters.up, &layer.parameters.down}) {
              p->mutable_grad() = torch::Tensor();
            }
          }};
}

}  // namespace

std::vector<Baseline> make_baselines(const LayerShape& shape, Pass pass, std::int64_t layers) {
  std::vector<Baseline> baselines;
  baselines.push_back(module_per_expert(shape, pass, layers));
  baselines.push_back(dense(shape, pass, torch::kFloat32, "libtorch, dense f32"));
  if (at::globalContext().hasMKLDNN()) {
    baselines.push_back(dense(shape, pass, torch::kBFloat16, "oneDNN, dense bf16"));
  }
  if (pass == Pass::kTrain) baselines.push_back(autograd_node(shape, layers));
  return baselines;
}

}  // namespace moekit::bench
