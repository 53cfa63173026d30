#include "moekit/nn/routers/task_routers.h"

#include <string>

#include "moekit/core/error.h"
#include "moekit/nn/parts.h"

namespace moekit::nn {

TaskRoutersImpl::TaskRoutersImpl(std::vector<std::shared_ptr<RouterImpl>> routers_)
    : routers(std::move(routers_)) {
  MOEKIT_CHECK(!routers.empty(), "TaskRouters: wants a router for each task; got none");
  for (size_t t = 0; t < routers.size(); ++t) {
    MOEKIT_CHECK(routers[t] != nullptr, "TaskRouters: task ", t, " has no router");
    MOEKIT_CHECK(routers[t]->num_experts() == routers[0]->num_experts(), "TaskRouters: task ", t,
                 " has a router of ", routers[t]->num_experts(), " experts, task 0 one of ",
                 routers[0]->num_experts());
    register_part(*this, std::to_string(t), routers[t]);
  }
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
  return active().forward(tokens, context);
}

void TaskRoutersImpl::take_experts(ExpertEdit& edit) {
  for (const auto& router : routers) router->take_experts(edit);
}

void TaskRoutersImpl::set_active(int64_t task) {
  MOEKIT_CHECK(task >= 0 && task < num_tasks(), "TaskRouters: task ", task, "; there are ",
               num_tasks());
  active_ = task;
}

}  // namespace moekit::nn
