// A sparse MoE layer inside an ordinary libtorch model: two of eight SwiGLU experts a token, one
// shared expert, trained with a load-balance loss.
#include <fmt/format.h>
#include <torch/nn/modules/linear.h>
#include <torch/optim/adam.h>

#include "moekit/nn/experts/mlp_experts.h"
#include "moekit/nn/losses/balance_loss.h"
#include "moekit/nn/moe_layer.h"
#include "moekit/nn/routers/linear_router.h"

using namespace moekit::nn;

int main() {
  torch::manual_seed(1);
  const auto experts = [](int64_t count) {
    return std::make_shared<MlpExpertsImpl>(
        MlpExpertsOptions(16, 32, count).activation(Activation::kSwiglu));
  };
  MoE layer(std::make_shared<LinearRouterImpl>(LinearRouterOptions(16, 8).top_k(2)), experts(8),
            MoEOptions().capacity_factor(1.5), experts(1));
  torch::nn::Linear head(16, 1);
  auto parameters = layer->parameters();
  for (const auto& p : head->parameters()) parameters.push_back(p);
  torch::optim::Adam optimizer(parameters, 3e-3);

  const auto x = torch::randn({512, 16});
  const auto y = (x.slice(1, 0, 1) * x.slice(1, 1, 2)).detach();  // no linear map gives a product
  double first = 0;
  double last = 0;
  for (int step = 0; step < 200; ++step) {
    const auto output = layer->forward_with_routing(x);
    const auto error = (head->forward(x + output.values) - y).square().mean();
    const auto loss = error + 0.01 * load_balance_loss(output.routing.probs, output.routing.expert);
    optimizer.zero_grad();
    loss.backward();
    optimizer.step();
    last = error.item<double>();
    if (step == 0) first = last;
  }
  fmt::print("squared error {:.3f} -> {:.3f}\n", first, last);
  if (last < first / 4) fmt::print("example: ok\n");
}
