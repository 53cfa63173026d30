// A router of one's own: a class that implements RouterImpl plugs into every layer.
#include <fmt/format.h>

#include "moekit/nn/cloneable.h"
#include "moekit/nn/experts/linear_experts.h"
#include "moekit/nn/moe_layer.h"

using namespace moekit::nn;

/// Sends token n to expert n mod E: the fairest router, and the most ignorant.
class RoundRobinRouterImpl : public Cloneable<RoundRobinRouterImpl, RouterImpl> {
 public:
  explicit RoundRobinRouterImpl(int64_t num_experts) : num_experts_(num_experts) {}
  void reset() override {}
  void reset_parameters(const at::Generator&) override {}
  int64_t num_experts() const override { return num_experts_; }
  Routing forward(const torch::Tensor& tokens, const RouterContext&) override {
    const auto expert = torch::arange(tokens.size(0), torch::kLong).remainder(num_experts_);
    const auto logits =
        torch::full({tokens.size(0), num_experts_}, -10.0).scatter(1, expert.unsqueeze(1), 10.0);
    return route(logits, 1);
  }
  void take_experts(ExpertEdit& edit) override {
    edit.then([this, experts = edit.index.numel()] { num_experts_ = experts; });
  }

 private:
  int64_t num_experts_;
};

int main() {
  MoE layer(std::make_shared<RoundRobinRouterImpl>(3),
            std::make_shared<LinearExpertsImpl>(LinearExpertsOptions(4, 4, 3)));
  const auto output = layer->forward_with_routing(torch::randn({9, 4}));
  for (int64_t e = 0; e < 3; ++e) fmt::print("expert {}: {} tokens\n", e, output.plan.count(e));
  if (output.plan.count(0) == 3) fmt::print("example: ok\n");
}
