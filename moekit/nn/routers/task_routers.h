#pragma once

#include <torch/nn/pimpl.h>

#include <memory>
#include <vector>

#include "moekit/nn/cloneable.h"
#include "moekit/nn/router.h"

namespace moekit::nn {

/// One router a task over the same experts, of which one is active: it alone routes, and is what
/// `expert_rows`, `directions` and `traits` speak of. Experts are taken from all of them. Where the
/// pool of experts grows from task to task, a router of before knows the first ones alone: it never
/// chooses the others, whose logits are then -infinity and whose probabilities are zero.
/// Source: Yu et al. 2024, Boosting Continual Learning of Vision-Language Models via
/// Mixture-of-Experts Adapters, arXiv:2403.11549, section 3.2 (task-specific routers).
class TaskRoutersImpl : public Cloneable<TaskRoutersImpl, RouterImpl> {
 public:
  /// Holds the routers it is given, "0", "1", ...; the first is active.
  /// @throws ArgumentError for none, or one of fewer experts than the router before it
  explicit TaskRoutersImpl(std::vector<std::shared_ptr<RouterImpl>> routers);
  void reset() override;
  void reset_parameters(const at::Generator& generator) override;
  Routing forward(const torch::Tensor& tokens, const RouterContext& context) override;
  int64_t num_experts() const override { return pool_; }
  bool needs_expert_features() const override { return active().needs_expert_features(); }
  int64_t feature_size() const override { return active().feature_size(); }
  torch::Tensor directions() const override { return active().directions(); }
  RouterTraits traits() const override { return active().traits(); }
  std::vector<torch::Tensor> expert_rows() const override { return active().expert_rows(); }
  StepLoad step_load() const override { return active().step_load(); }
  void end_step(const StepLoad& model) override { active().end_step(model); }
  /// @throws ArgumentError where routers know different numbers of experts
  void take_experts(ExpertEdit& edit) override;

  int64_t num_tasks() const { return static_cast<int64_t>(routers.size()); }
  int64_t active_task() const { return active_; }
  /// @throws ArgumentError for a task that is not there
  void set_active(int64_t task);
  /// How many experts there are now; at first as many as the first router knows.
  void set_pool(int64_t experts) { pool_ = experts; }

  std::vector<std::shared_ptr<RouterImpl>> routers;

 private:
  RouterImpl& active() const { return *routers[static_cast<size_t>(active_)]; }
  int64_t active_ = 0;
  int64_t pool_ = 0;
};
TORCH_MODULE(TaskRouters);

}  // namespace moekit::nn
