#include "moekit/nn/routers/task_routers.h"

#include <limits>
#include <string>

#include "moekit/core/error.h"
#include "moekit/nn/parts.h"

namespace moekit::nn {

TaskRoutersImpl::TaskRoutersImpl(std::vector<std::shared_ptr<RouterImpl>> routers_)
    : routers(std::move(routers_)) {
  MOEKIT_CHECK(!routers.empty(), "TaskRouters: wants a router for each task; got none");
  for (size_t t = 0; t < routers.size(); ++t) {
    MOEKIT_CHECK(routers[t] != nullptr, "TaskRouters: task ", t, " has no router");
    const size_t before = t == 0 ? 0 : t - 1;
    MOEKIT_CHECK(routers[t]->num_experts() >= routers[before]->num_experts(), "TaskRouters: task ",
                 t, " has a router of ", routers[t]->num_experts(), " experts, task ", before,
                 " one of ", routers[before]->num_experts());
    register_part(*this, std::to_string(t), routers[t]);
  }
  pool_ = routers[0]->num_experts();
}

void TaskRoutersImpl::reset() {
  for (size_t t = 0; t < routers.size(); ++t) {
    register_copy(*this, std::to_string(t), routers[t]);
  }
}

void TaskRoutersImpl::reset_parameters(const at::Generator& generator) {
  for (const auto& router : routers) router->reset_parameters(generator);
}

Routing TaskRoutersImpl::forward(const torch::Tensor& tokens, const RouterContext& context) {
  auto routing = active().forward(tokens, context);
  const int64_t more = pool_ - routing.num_experts();
  MOEKIT_CHECK(more >= 0, "TaskRouters: the router of task ", active_, " knows ",
               routing.num_experts(), " experts, and there are ", pool_);
  if (more == 0) return routing;
  const auto extend = [&](torch::Tensor& of, double value) {
    if (!of.defined() || of.dim() != 2) return;
    of = torch::cat({of, torch::full({of.size(0), more}, value, of.options())}, 1);
  };
  extend(routing.logits, -std::numeric_limits<double>::infinity());
  extend(routing.clean_logits, -std::numeric_limits<double>::infinity());
  extend(routing.probs, 0);
  extend(routing.noise_std, 0);
  routing.takes_all = false;
  return routing;
}

void TaskRoutersImpl::take_experts(ExpertEdit& edit) {
  MOEKIT_CHECK(routers.front()->num_experts() == routers.back()->num_experts(),
               "TaskRouters: experts of a pool that grows cannot be taken");
  for (const auto& router : routers) router->take_experts(edit);
  edit.then([this, experts = edit.index.numel()] { pool_ = experts; });
}

void TaskRoutersImpl::set_active(int64_t task) {
  MOEKIT_CHECK(task >= 0 && task < num_tasks(), "TaskRouters: task ", task, "; there are ",
               num_tasks());
  active_ = task;
}

}  // namespace moekit::nn
