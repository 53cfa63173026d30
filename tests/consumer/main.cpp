#include <moekit/metrics/routing_metrics.h>
#include <moekit/nn/experts/mlp_experts.h>
#include <moekit/nn/moe_layer.h>
#include <moekit/nn/routers/linear_router.h>

int main() {
  using namespace moekit::nn;
  MoE layer(std::make_shared<LinearRouterImpl>(LinearRouterOptions(8, 4).top_k(2)),
            std::make_shared<MlpExpertsImpl>(MlpExpertsOptions(8, 16, 4)));
  const auto output = layer->forward_with_routing(torch::ones({3, 8}));
  return output.values.size(0) == 3 && moekit::metrics::top1_mass(output.routing.probs) > 0 ? 0 : 1;
}
