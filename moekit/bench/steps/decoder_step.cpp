// A training step of a small language model, 4 blocks of d = 256 with 16 experts of width 512, two
// a token, batch 16 x 256, vocabulary 1,024, AdamW: ours against the same model written with
// libtorch's modules, attention as a matrix of all scores, and a module for each expert. FLOP/s
// count the matrix products of forward and backward passes; attention's are those of the pairs a
// query sees. The first step, which makes the optimizer's moments, is not measured. `bf16` computes
// the experts' products in bfloat16, with master weights and all else in float32.
#include <benchmark/benchmark.h>
#include <torch/torch.h>

#include <cmath>

#include "moekit/models/decoder.h"
#include "moekit/nn/linear_cross_entropy.h"
#include "moekit/nn/routers/linear_router.h"
#include "moekit/tensor/arithmetic.h"

namespace {

constexpr int64_t kBatch = 16;
constexpr int64_t kLength = 256;
constexpr int64_t kSize = 256;
constexpr int64_t kHeads = 4;
constexpr int64_t kDim = kSize / kHeads;
constexpr int64_t kLayers = 4;
constexpr int64_t kExperts = 16;
constexpr int64_t kTopK = 2;
constexpr int64_t kWidth = 512;
constexpr int64_t kVocabulary = 1024;
constexpr double kLr = 1e-3;

double step_operations() {
  const auto d = static_cast<double>(kSize);
  const auto t = static_cast<double>(kLength);
  const double of_token = kLayers * (4 * d * d + 3.0 * kTopK * d * kWidth + d * kExperts) +
                          d * static_cast<double>(kVocabulary);
  const double forward = 2 * of_token * static_cast<double>(kBatch * kLength);
  const double pairs = kBatch * kHeads * t * (t + 1) / 2;
  return 3 * forward + kLayers * 7 * 2 * pairs * static_cast<double>(kDim);
}

torch::Tensor drawn_ids() {
  torch::manual_seed(1);
  return torch::randint(kVocabulary, {kBatch, kLength + 1}, torch::kLong);
}

void note_operations(benchmark::State& state) {
  state.counters["FLOP/s"] =
      benchmark::Counter(step_operations(), benchmark::Counter::kIsIterationInvariantRate);
}

/// Measures step() after one that is not.
template <typename Step>
void run_steps(benchmark::State& state, const Step& step) {
  step();
  for (auto _ : state) step();
  note_operations(state);
}

void train_moekit(benchmark::State& state, moekit::kernels::ComputeType compute) {
  moekit::tensor::start_arithmetic(state.range(0));
  moekit::models::DecoderConfig config;
  config.hidden_size = kSize;
  config.num_layers = kLayers;
  config.num_heads = kHeads;
  config.context = kLength;
  config.num_experts = kExperts;
  config.expert->as<moekit::nn::MlpExpertsOptions>().intermediate_size(kWidth).compute(compute);
  config.router->as<moekit::nn::LinearRouterConfig>().router.top_k(kTopK);
  moekit::models::Decoder model(config, kVocabulary);
  model->reset_parameters(1, 2);
  model->train();
  torch::optim::AdamW optimizer(model->parameters(), torch::optim::AdamWOptions(kLr));
  const auto ids = drawn_ids();
  const auto in = ids.narrow(1, 0, kLength).contiguous();
  const auto next = ids.narrow(1, 1, kLength).flatten();
  run_steps(state, [&] {
    optimizer.zero_grad();
    const auto output = model->forward_hidden(in, {});
    moekit::nn::linear_cross_entropy(output.hidden.flatten(0, 1), model->head_weight(), next)
        .backward();
    optimizer.step();
  });
}

void decoder_moekit(benchmark::State& state) {
  train_moekit(state, moekit::kernels::ComputeType::kF32);
}

void decoder_moekit_bf16(benchmark::State& state) {
  train_moekit(state, moekit::kernels::ComputeType::kBf16);
}

struct PlainNorm : torch::nn::Module {
  PlainNorm() { weight = register_parameter("weight", torch::ones({kSize})); }
  torch::Tensor operator()(const torch::Tensor& x) {
    return x * torch::rsqrt(x.square().mean(-1, true) + 1e-5) * weight;
  }
  torch::Tensor weight;
};

torch::nn::Linear linear(int64_t in, int64_t out) {
  return torch::nn::Linear(torch::nn::LinearOptions(in, out).bias(false));
}

struct PlainExpert : torch::nn::Module {
  PlainExpert() {
    gate = register_module("gate", linear(kSize, kWidth));
    up = register_module("up", linear(kSize, kWidth));
    down = register_module("down", linear(kWidth, kSize));
  }
  torch::Tensor operator()(const torch::Tensor& x) { return down(torch::silu(gate(x)) * up(x)); }
  torch::nn::Linear gate{nullptr}, up{nullptr}, down{nullptr};
};

struct PlainBlock : torch::nn::Module {
  PlainBlock() {
    before = register_module("before", std::make_shared<PlainNorm>());
    after = register_module("after", std::make_shared<PlainNorm>());
    query = register_module("query", linear(kSize, kSize));
    key = register_module("key", linear(kSize, kSize));
    value = register_module("value", linear(kSize, kSize));
    out = register_module("out", linear(kSize, kSize));
    router = register_module("router", linear(kSize, kExperts));
    for (int64_t e = 0; e < kExperts; ++e) {
      experts.push_back(
          register_module("expert" + std::to_string(e), std::make_shared<PlainExpert>()));
    }
  }
  torch::Tensor attend(const torch::Tensor& x, const torch::Tensor& cos, const torch::Tensor& sin,
                       const torch::Tensor& mask) {
    const auto heads = [&](torch::nn::Linear& map) {
      return map(x).view({kBatch, kLength, kHeads, kDim}).transpose(1, 2);
    };
    const auto turned = [&](const torch::Tensor& of) {
      const auto halves = of.chunk(2, -1);
      return of * cos + torch::cat({-halves[1], halves[0]}, -1) * sin;
    };
    const auto scores = turned(heads(query)).matmul(turned(heads(key)).transpose(2, 3)) /
                        std::sqrt(static_cast<double>(kDim));
    const auto share = torch::softmax(scores.masked_fill(mask, -1e30), -1);
    return out(share.matmul(heads(value)).transpose(1, 2).reshape({kBatch, kLength, kSize}));
  }
  torch::Tensor route(const torch::Tensor& tokens) {
    const auto [best, index] = router(tokens).topk(kTopK, 1);
    const auto share = torch::softmax(best, 1);
    auto sum = torch::zeros_like(tokens);
    for (int64_t e = 0; e < kExperts; ++e) {
      const auto where = torch::nonzero(index == e);
      if (where.size(0) == 0) continue;
      const auto token = where.select(1, 0);
      const auto weight = share.index({token, where.select(1, 1)}).unsqueeze(1);
      sum = sum.index_add(
          0, token, (*experts[static_cast<size_t>(e)])(tokens.index_select(0, token)) * weight);
    }
    return sum;
  }
  torch::Tensor operator()(torch::Tensor x, const torch::Tensor& cos, const torch::Tensor& sin,
                           const torch::Tensor& mask) {
    x = x + attend((*before)(x), cos, sin, mask);
    return x + route((*after)(x).flatten(0, 1)).view_as(x);
  }
  std::shared_ptr<PlainNorm> before, after;
  torch::nn::Linear query{nullptr}, key{nullptr}, value{nullptr}, out{nullptr}, router{nullptr};
  std::vector<std::shared_ptr<PlainExpert>> experts;
};

struct PlainDecoder : torch::nn::Module {
  PlainDecoder() {
    embedding = register_parameter("embedding", 0.02 * torch::randn({kVocabulary, kSize}));
    for (int64_t l = 0; l < kLayers; ++l) {
      blocks.push_back(
          register_module("block" + std::to_string(l), std::make_shared<PlainBlock>()));
    }
    norm = register_module("norm", std::make_shared<PlainNorm>());
    const auto turn =
        torch::outer(torch::arange(kLength, torch::kFloat32),
                     torch::pow(10000.0, -torch::arange(0, kDim, 2).to(torch::kFloat32) / kDim));
    cos = torch::cat({turn, turn}, 1).cos();
    sin = torch::cat({turn, turn}, 1).sin();
    mask = torch::ones({kLength, kLength}, torch::kBool).triu(1);
  }
  torch::Tensor logits(const torch::Tensor& ids) {
    auto x = torch::embedding(embedding, ids);
    for (auto& block : blocks) x = (*block)(x, cos, sin, mask);
    return (*norm)(x).matmul(embedding.t());
  }
  torch::Tensor embedding, cos, sin, mask;
  std::vector<std::shared_ptr<PlainBlock>> blocks;
  std::shared_ptr<PlainNorm> norm;
};

void decoder_libtorch(benchmark::State& state) {
  moekit::tensor::start_arithmetic(state.range(0));
  PlainDecoder model;
  torch::optim::AdamW optimizer(model.parameters(), torch::optim::AdamWOptions(kLr));
  const auto ids = drawn_ids();
  const auto in = ids.narrow(1, 0, kLength).contiguous();
  const auto next = ids.narrow(1, 1, kLength).flatten();
  run_steps(state, [&] {
    optimizer.zero_grad();
    torch::nn::functional::cross_entropy(model.logits(in).flatten(0, 1), next).backward();
    optimizer.step();
  });
}

BENCHMARK(decoder_moekit)->Arg(1)->Arg(2)->UseRealTime()->Unit(benchmark::kMillisecond);
BENCHMARK(decoder_moekit_bf16)->Arg(1)->Arg(2)->UseRealTime()->Unit(benchmark::kMillisecond);
BENCHMARK(decoder_libtorch)->Arg(1)->Arg(2)->UseRealTime()->Unit(benchmark::kMillisecond);

}  // namespace
