// The two-step procedure: experts learned under one router, frozen under a new one.
#include <fmt/format.h>
#include <torch/optim/adam.h>

#include "moekit/data/sets/synthetic_clusters.h"
#include "moekit/nn/experts/mlp_experts.h"
#include "moekit/nn/mixture.h"
#include "moekit/nn/routers/attentive_router.h"
#include "moekit/nn/routers/linear_router.h"
#include "moekit/nn/surgery.h"

#include <torch/nn/modules/linear.h>

using namespace moekit;

namespace {

double train(nn::Mixture& mixture, const torch::Tensor& x, const torch::Tensor& y) {
  std::vector<torch::Tensor> learning;
  for (const auto& p : mixture->parameters()) {
    if (p.requires_grad()) learning.push_back(p);
  }
  torch::optim::Adam optimizer(learning, 1e-2);
  for (int step = 0; step < 150; ++step) {
    const auto loss = mixture->loss(mixture->forward(x), y);
    optimizer.zero_grad();
    loss.backward();
    optimizer.step();
  }
  return mixture->forward(x).log_probs.argmax(1).ne(y).to(torch::kFloat32).mean().item<double>();
}

}  // namespace

int main() {
  torch::manual_seed(1);
  const auto dataset = data::make_cluster_images({});
  const auto x = data::normalize(dataset.train.images, dataset.normalization).flatten(1);
  const auto y = dataset.train.labels;
  const auto bank = [] {
    return std::make_shared<nn::MlpExpertsImpl>(nn::MlpExpertsOptions(144, 8, 4).output_size(2));
  };
  nn::Mixture teacher(
      std::make_shared<nn::AttentiveRouterImpl>(nn::AttentiveRouterOptions(8, 4),
                                                torch::nn::AnyModule(torch::nn::Linear(144, 8))),
      bank());
  const double before = train(teacher, x, y);

  const auto experts = bank();
  nn::copy_parameters(*teacher->experts, *experts);
  nn::freeze(*experts);
  nn::Mixture student(std::make_shared<nn::LinearRouterImpl>(nn::LinearRouterOptions(144, 4)),
                      experts);
  const double after = train(student, x, y);
  fmt::print("error {:.3f} under the attentive gate, {:.3f} distilled\n", before, after);
  if (after < before + 0.02) fmt::print("example: ok\n");
}
