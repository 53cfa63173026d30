// Experts beside a frozen network, as recipes/merging-experts has them: 784-128-10, 8 experts of 16
// units, two a token, batch 64, one thread. moekit's sparse layer, on features that are computed
// once for all because nothing before them learns, against one libtorch module per expert in a
// loop, with and without that. One training step (forward, backward, Adam), and a whole stream:
// seven tasks of 300 steps on 19,200 images, all seven judged on 10,000 images each before the
// first task and after every one.
#include <benchmark/benchmark.h>
#include <torch/nn/functional/loss.h>
#include <torch/nn/modules/linear.h>
#include <torch/optim/adam.h>

#include "moekit/nn/experts/mlp_experts.h"
#include "moekit/nn/moe_layer.h"
#include "moekit/nn/routers/linear_router.h"
#include "moekit/nn/surgery.h"
#include "moekit/tensor/arithmetic.h"

namespace {

constexpr int64_t kTokens = 64;
constexpr int64_t kPixels = 784;
constexpr int64_t kFeatures = 128;
constexpr int64_t kUnits = 16;
constexpr int64_t kExperts = 8;
constexpr int64_t kTopK = 2;

struct BaseImpl : torch::nn::Module {
  BaseImpl()
      : body(register_module("body", torch::nn::Linear(kPixels, kFeatures))),
        head(register_module("head", torch::nn::Linear(kFeatures, 10))) {
    moekit::nn::freeze(*this);
  }
  torch::Tensor features(const torch::Tensor& x) { return torch::relu(body->forward(x)); }
  torch::nn::Linear body, head;
};
TORCH_MODULE(Base);

struct LoopAdaptersImpl : torch::nn::Module {
  LoopAdaptersImpl()
      : router(register_module(
            "router",
            torch::nn::Linear(torch::nn::LinearOptions(kFeatures, kExperts).bias(false)))),
        noise(register_module(
            "noise",
            torch::nn::Linear(torch::nn::LinearOptions(kFeatures, kExperts).bias(false)))) {
    for (int64_t e = 0; e < kExperts; ++e) {
      const auto name = std::to_string(e);
      down.push_back(register_module("down" + name, torch::nn::Linear(kFeatures, kUnits)));
      up.push_back(register_module("up" + name, torch::nn::Linear(kUnits, kFeatures)));
    }
  }
  torch::Tensor forward(const torch::Tensor& x) {
    auto logits = router->forward(x);
    logits = logits + torch::randn_like(logits) * torch::softplus(noise->forward(x));
    const auto [best, index] = logits.topk(kTopK, 1);
    const auto gate = torch::softmax(best, 1);
    auto out = torch::zeros_like(x);
    for (size_t e = 0; e < down.size(); ++e) {
      const auto where = index.eq(static_cast<int64_t>(e)).nonzero();
      if (where.size(0) == 0) continue;
      const auto token = where.select(1, 0);
      const auto y = up[e]->forward(torch::relu(down[e]->forward(x.index_select(0, token))));
      const auto weight = gate.index({token, where.select(1, 1)}).unsqueeze(1);
      out = out.index_add(0, token, y * weight);
    }
    return out;
  }
  torch::nn::Linear router, noise;
  std::vector<torch::nn::Linear> down, up;
};
TORCH_MODULE(LoopAdapters);

template <typename Loss>
void run_steps(benchmark::State& state, const std::vector<torch::Tensor>& parameters,
               Loss&& loss_of) {
  moekit::tensor::start_arithmetic(1);
  torch::optim::Adam optimizer(parameters, 1e-3);
  for (auto _ : state) {
    optimizer.zero_grad();
    const auto loss = loss_of();
    loss.backward();
    optimizer.step();
    benchmark::DoNotOptimize(loss.template item<double>());
  }
}

torch::Tensor loss_of(Base& base, const torch::Tensor& features, const torch::Tensor& labels) {
  return torch::nn::functional::cross_entropy(base->head->forward(features), labels);
}

moekit::nn::MoE make_layer() {
  namespace nn = moekit::nn;
  return nn::MoE(
      std::make_shared<nn::LinearRouterImpl>(nn::LinearRouterOptions(kFeatures, kExperts)
                                                 .top_k(kTopK)
                                                 .noise(nn::RouterNoise::kGaussian)
                                                 .bias(false)),
      std::make_shared<nn::MlpExpertsImpl>(nn::MlpExpertsOptions(kFeatures, kUnits, kExperts)));
}

void adapter_step_moekit(benchmark::State& state) {
  Base base;
  auto layer = make_layer();
  const auto h = base->features(torch::rand({kTokens, kPixels})).detach();
  const auto y = torch::randint(10, {kTokens}, torch::kLong);
  run_steps(state, layer->parameters(),
            [&] { return loss_of(base, h + layer->forward_with_routing(h).values, y); });
}

/// @param known  whether the frozen features are computed once, too
void loop_steps(benchmark::State& state, bool known) {
  Base base;
  LoopAdapters adapters;
  const auto x = torch::rand({kTokens, kPixels});
  const auto y = torch::randint(10, {kTokens}, torch::kLong);
  const auto kept = base->features(x).detach();
  run_steps(state, adapters->parameters(), [&] {
    const auto h = known ? kept : base->features(x);
    return loss_of(base, h + adapters->forward(h), y);
  });
}

void adapter_step_loop(benchmark::State& state) { loop_steps(state, /*known=*/false); }
void adapter_step_loop_known(benchmark::State& state) { loop_steps(state, /*known=*/true); }

/// A whole stream of tasks. @param features  of images, where they are wanted
/// @param added  what experts add to features
template <typename Features, typename Added>
void run_stream(benchmark::State& state, Base& base, const std::vector<torch::Tensor>& parameters,
                const Features& features, const Added& added) {
  moekit::tensor::start_arithmetic(1);
  constexpr int64_t kTasks = 7;
  constexpr int64_t kSteps = 300;
  constexpr int64_t kTest = 10000;
  constexpr int64_t kAtOnce = 1000;
  const auto images = torch::rand({kSteps * kTokens, kPixels});
  const auto labels = torch::randint(10, {kSteps * kTokens}, torch::kLong);
  const auto tests = torch::rand({kTest, kPixels});
  const auto answers = torch::randint(10, {kTest}, torch::kLong);
  for (auto _ : state) {
    // What is kept of a task's images is made anew for each, as they would be other ones.
    std::vector<torch::Tensor> judged;
    for (int64_t t = 0; t < kTasks; ++t) judged.push_back(features(tests, true));
    int64_t right = 0;
    const auto judge = [&] {
      const torch::NoGradGuard no_grad;
      for (const auto& of_task : judged) {
        for (int64_t b = 0; b < kTest; b += kAtOnce) {
          const auto h = features(of_task.slice(0, b, b + kAtOnce), false);
          const auto logits = base->head->forward(h + added(h));
          right +=
              logits.argmax(1).eq(answers.slice(0, b, b + kAtOnce)).sum().template item<int64_t>();
        }
      }
    };
    judge();
    for (int64_t t = 0; t < kTasks; ++t) {
      const auto kept = features(images, true);
      torch::optim::Adam optimizer(parameters, 1e-3);
      for (int64_t s = 0; s < kSteps; ++s) {
        optimizer.zero_grad();
        const auto h = features(kept.slice(0, s * kTokens, (s + 1) * kTokens), false);
        const auto loss =
            loss_of(base, h + added(h), labels.slice(0, s * kTokens, (s + 1) * kTokens));
        loss.backward();
        optimizer.step();
      }
      judge();
    }
    benchmark::DoNotOptimize(right);
  }
}

void adapter_stream_moekit(benchmark::State& state) {
  Base base;
  auto layer = make_layer();
  run_stream(
      state, base, layer->parameters(),
      [&](const torch::Tensor& x, bool ahead) { return ahead ? base->features(x) : x; },
      [&](const torch::Tensor& h) { return layer->forward_with_routing(h).values; });
}

void adapter_stream_loop(benchmark::State& state) {
  Base base;
  LoopAdapters adapters;
  run_stream(
      state, base, adapters->parameters(),
      [&](const torch::Tensor& x, bool ahead) { return ahead ? x : base->features(x); },
      [&](const torch::Tensor& h) { return adapters->forward(h); });
}

BENCHMARK(adapter_step_moekit)->Unit(benchmark::kMillisecond);
BENCHMARK(adapter_step_loop)->Unit(benchmark::kMillisecond);
BENCHMARK(adapter_step_loop_known)->Unit(benchmark::kMillisecond);
BENCHMARK(adapter_stream_moekit)->Unit(benchmark::kMillisecond)->Iterations(1);
BENCHMARK(adapter_stream_loop)->Unit(benchmark::kMillisecond)->Iterations(1);

}  // namespace
