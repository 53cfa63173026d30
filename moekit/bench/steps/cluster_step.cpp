// One full-batch training step (forward, backward, normalized gradient descent) of the
// cluster-patch problem, n = 16,000, eight networks of 16 filters, one thread: patch experts on
// their kernel against one libtorch convolution per expert on the samples it is given.

#include <benchmark/benchmark.h>
#include <torch/nn/modules/conv.h>

#include "moekit/data/sets/cluster_patch.h"
#include "moekit/models/classifier.h"
#include "moekit/tensor/arithmetic.h"
#include "moekit/tensor/generator.h"
#include "moekit/train/optimizers/normalized_gd.h"

namespace {

using moekit::train::GradientNorm;
using moekit::train::NormalizedGd;
using torch::optim::OptimizerParamGroup;
using torch::optim::SGDOptions;

constexpr int64_t kClusterExperts = 8;

const moekit::data::ImageSet& cluster_samples() {
  static const auto kSet = moekit::data::make_cluster_patch({}, 1);
  return kSet.train;
}

std::shared_ptr<moekit::models::ClassifierImpl> cluster_model() {
  moekit::KindSection<moekit::models::ModelKinds> config;
  bind_config(moekit::parse_toml(R"(
kind = "sparse_mixture"
num_experts = 8
output_loss = "double_softmax"
expert = { kind = "patch", activation = "cubic", init_scale = 1e-3 }
router = { kind = "linear", input = "patch_sum", top_k = 1, combine_weights = "logits", noise = "uniform", init = "zero", bias = false }
)",
                                 "cluster_step"),
              config);
  return config->make(moekit::models::InputShape{1, 4, 50, 2});
}

void cluster_step_moekit(benchmark::State& state) {
  moekit::tensor::start_arithmetic(1);
  const auto& samples = cluster_samples();
  const auto model = cluster_model();
  const auto layer = moekit::nn::routed_layers(*model).front();
  std::vector<OptimizerParamGroup> groups;
  groups.emplace_back(layer.router->parameters(), std::make_unique<SGDOptions>(0.1));
  groups.emplace_back(layer.experts->parameters(), std::make_unique<SGDOptions>(1e-3));
  NormalizedGd optimizer(std::move(groups), SGDOptions(1e-3), {1}, GradientNorm::kSumOfNorms);
  uint64_t step = 0;
  for (auto _ : state) {
    moekit::nn::RouterContext context;
    context.generator = moekit::tensor::make_generator(++step);
    const auto output = model->forward(samples.images, context);
    optimizer.zero_grad();
    model->loss(output, samples.labels).backward();
    optimizer.step();
  }
}
BENCHMARK(cluster_step_moekit)->Unit(benchmark::kMillisecond);

void cluster_step_loop(benchmark::State& state) {
  moekit::tensor::start_arithmetic(1);
  const auto& samples = cluster_samples();
  const auto x = samples.images.flatten(2);  // [N, 1, P * d]: a convolution with stride d
  const auto summed = samples.images.sum(2).flatten(1);
  auto router = torch::zeros({kClusterExperts, 50}, torch::requires_grad());
  std::vector<torch::nn::Conv1d> experts;
  for (int64_t e = 0; e < kClusterExperts; ++e) {
    experts.emplace_back(torch::nn::Conv1dOptions(1, 16, 50).stride(50));
    const torch::NoGradGuard no_grad;
    for (auto& p : experts.back()->parameters()) p.mul_(1e-3);
  }
  uint64_t step = 0;
  for (auto _ : state) {
    auto noise = torch::empty({x.size(0), kClusterExperts});
    noise.uniform_(0, 1, moekit::tensor::make_generator(++step));
    const auto logits = summed.matmul(router.t()) + noise;
    const auto [gate, chosen] = logits.max(1);
    std::vector<torch::Tensor> index;
    std::vector<torch::Tensor> parts;
    for (int64_t e = 0; e < kClusterExperts; ++e) {
      index.push_back(chosen.eq(e).nonzero().squeeze(1));
      const auto z = experts[static_cast<size_t>(e)]->forward(x.index_select(0, index.back()));
      parts.push_back((z * z * z).view({-1, 2, 8, 4}).sum(at::IntArrayRef{2, 3}));
    }
    const auto rows = torch::cat(index);
    const auto out = torch::cat(parts) * gate.index_select(0, rows).unsqueeze(1);
    const auto loss = torch::nll_loss(torch::log_softmax(torch::softmax(out, 1), 1),
                                      samples.labels.index_select(0, rows));
    for (auto& expert : experts) expert->zero_grad();
    router.mutable_grad().reset();
    loss.backward();
    const torch::NoGradGuard no_grad;
    for (auto& expert : experts) {
      double norm = 0;
      for (auto& p : expert->parameters()) norm += p.grad().norm().item<double>();
      for (auto& p : expert->parameters()) {
        if (norm > 0) p.sub_(p.grad() * (1e-3 / norm));
      }
    }
    router.sub_(router.grad() * 0.1);
  }
}
BENCHMARK(cluster_step_loop)->Unit(benchmark::kMillisecond);

}  // namespace
