// One training step (forward, backward, Adam) of the FashionMNIST mixture at batch 512, one
// thread: moekit's stacked experts against one libtorch module per expert in a loop, with the
// same networks. The argument is the number of experts.

#include <benchmark/benchmark.h>
#include <sys/resource.h>
#include <torch/nn/modules/batchnorm.h>
#include <torch/nn/modules/conv.h>
#include <torch/nn/modules/linear.h>
#include <torch/optim/adam.h>

#include "moekit/data/image_dataset.h"
#include "moekit/models/mixture_classifier.h"
#include "moekit/tensor/arithmetic.h"

namespace {

constexpr int64_t kBatch = 512;
constexpr int64_t kClasses = 10;

struct LoopExpertImpl : torch::nn::Module {
  LoopExpertImpl()
      : conv(register_module("conv", torch::nn::Conv2d(1, 1, 3))),
        a(register_module("a", torch::nn::Linear(169, 64))),
        b(register_module("b", torch::nn::Linear(64, 32))),
        c(register_module("c", torch::nn::Linear(32, kClasses))) {}
  torch::Tensor forward(const torch::Tensor& x) {
    auto h = torch::max_pool2d(torch::relu(conv->forward(x)), 2).flatten(1);
    return c->forward(torch::relu(b->forward(torch::relu(a->forward(h)))));
  }
  torch::nn::Conv2d conv;
  torch::nn::Linear a, b, c;
};
TORCH_MODULE(LoopExpert);

struct LoopMixtureImpl : torch::nn::Module {
  explicit LoopMixtureImpl(int64_t num_experts)
      : conv(register_module("conv", torch::nn::Conv2d(1, 8, 3))),
        norm(register_module("norm", torch::nn::BatchNorm2d(8))),
        a(register_module("a", torch::nn::Linear(1352, 512))),
        b(register_module("b", torch::nn::Linear(512, 32))),
        c(register_module("c", torch::nn::Linear(32, num_experts))) {
    for (int64_t e = 0; e < num_experts; ++e) {
      experts.push_back(register_module("expert" + std::to_string(e), LoopExpert()));
    }
  }
  torch::Tensor forward(const torch::Tensor& x) {
    auto h = torch::max_pool2d(torch::relu(norm->forward(conv->forward(x))), 2).flatten(1);
    h = torch::relu(b->forward(torch::relu(a->forward(h))));
    const auto log_gate = torch::log_softmax(c->forward(h), 1);
    std::vector<torch::Tensor> parts;
    for (size_t e = 0; e < experts.size(); ++e) {
      parts.push_back(torch::log_softmax(experts[e]->forward(x), 1) +
                      log_gate.narrow(1, static_cast<int64_t>(e), 1));
    }
    return torch::logsumexp(torch::stack(parts), 0);
  }
  torch::nn::Conv2d conv;
  torch::nn::BatchNorm2d norm;
  torch::nn::Linear a, b, c;
  std::vector<LoopExpert> experts;
};
TORCH_MODULE(LoopMixture);

std::shared_ptr<moekit::models::ClassifierImpl> stacked_model(int64_t num_experts) {
  moekit::KindSection<moekit::models::ModelKinds> config;
  bind_config(moekit::parse_toml(R"(
kind = "mixture"
expert = { kind = "conv", net = { conv = [{ channels = 1 }], hidden = [64, 32] } }
router = { kind = "linear", trunk = { conv = [{ channels = 8, batch_norm = true }], hidden = [512, 32] } }
)",
                                 "mixture_step"),
              config);
  config->as<moekit::models::MixtureConfig>().num_experts = num_experts;
  return config->make(moekit::models::InputShape{1, 28, 28, kClasses});
}

template <typename Loss>
void run_steps(benchmark::State& state, const std::vector<torch::Tensor>& parameters,
               Loss&& loss_of) {
  moekit::tensor::start_arithmetic(1);
  torch::optim::Adam optimizer(parameters, 1e-3);
  for (auto _ : state) {
    const auto loss = loss_of();
    optimizer.zero_grad();
    loss.backward();
    optimizer.step();
    benchmark::DoNotOptimize(loss.template item<double>());
  }
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  state.counters["peak_MiB"] = static_cast<double>(usage.ru_maxrss) / 1024;
}

void mixture_step_moekit(benchmark::State& state) {
  const auto model = stacked_model(state.range(0));
  model->train();
  const auto x = torch::randn({kBatch, 1, 28, 28});
  const auto y = torch::randint(kClasses, {kBatch}, torch::kLong);
  run_steps(state, model->parameters(), [&] { return model->loss(model->forward(x, {}), y); });
}

void mixture_step_loop(benchmark::State& state) {
  LoopMixture model(state.range(0));
  model->train();
  const auto x = torch::randn({kBatch, 1, 28, 28});
  const auto y = torch::randint(kClasses, {kBatch}, torch::kLong);
  run_steps(state, model->parameters(), [&] { return torch::nll_loss(model->forward(x), y); });
}

/// The part of a step that is data loading: 512 of 60,000 images picked and normalised.
void load_batch(benchmark::State& state) {
  moekit::tensor::start_arithmetic(1);
  moekit::data::ImageSet set{torch::randint(256, {60000, 1, 28, 28}, torch::kUInt8),
                             torch::zeros({60000}, torch::kLong),
                             {}};
  const auto index = torch::randint(60000, {kBatch}, torch::kLong);
  for (auto _ : state) {
    const auto batch = set.select(index);
    benchmark::DoNotOptimize(moekit::data::normalize(batch.images, {{0.29}, {0.35}}));
  }
}

BENCHMARK(mixture_step_moekit)->Arg(5)->Arg(20)->Unit(benchmark::kMillisecond);
BENCHMARK(mixture_step_loop)->Arg(5)->Arg(20)->Unit(benchmark::kMillisecond);
BENCHMARK(load_batch)->Unit(benchmark::kMillisecond);

}  // namespace
