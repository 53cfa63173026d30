#pragma once

#include <torch/nn/pimpl.h>

#include <memory>
#include <vector>

#include "moekit/nn/cloneable.h"
#include "moekit/nn/router.h"

namespace moekit::nn {

/// One router a task over the same experts, of which one is active: it alone routes, and is what
/// `expert_rows`, `directions` and `traits` speak of. Experts are taken from all of them.
/// Source: Yu et al. 2024, Boosting Continual Learning of Vision-Language Models via
/// Mixture-of-Experts Adapters, arXiv:2403.11549, section 3.2 (task-specific routers).
class TaskRoutersImpl : public Cloneable<TaskRoutersImpl, RouterImpl> {
 public:
  /// Holds the routers it is given, "0", "1", ...; the first is active.
  /// @throws ArgumentError for none, or routers of different numbers of experts
  explicit TaskRoutersImpl(std::vector<std::shared_ptr<RouterImpl>> routers);
  void reset() override;
  void reset_parameters(const at::Generator& generator) override;
  Routing forward(const torch::Tensor& tokens, const RouterContext& context) override;
  int64_t num_experts() const override { return active().num_experts(); }
  bool needs_expert_features() const override { return active().needs_expert_features(); }
  int64_t feature_size() const override { return active().feature_size(); }
  torch::Tensor directions() const override { return active().directions(); }
  RouterTraits traits() const override { return active().traits(); }
  std::vector<torch::Tensor> expert_rows() const override { return active().expert_rows(); }
  void take_experts(ExpertEdit& edit) override;

  int64_t num_tasks() const { return static_cast<int64_t>(routers.size()); }
  int64_t active_task() const { return active_; }
  /// @throws ArgumentError for a task that is not there
  void set_active(int64_t task);

  std::vector<std::shared_ptr<RouterImpl>> routers;

 private:
  RouterImpl& active() const { return *routers[static_cast<size_t>(active_)]; }
  int64_t active_ = 0;
};
TORCH_MODULE(TaskRouters);

}  // namespace moekit::nn
