#pragma once

#include <torch/nn/pimpl.h>

#include <vector>

#include "moekit/core/field_rule.h"
#include "moekit/nn/cloneable.h"
#include "moekit/nn/layer_site.h"
#include "moekit/nn/router.h"

namespace moekit::nn {

/// Options of `OracleRouter`: `groups[e]` lists the task ids (labels, domains) of expert e.
struct OracleRouterOptions {
  using Groups = std::vector<std::vector<int64_t>>;
  OracleRouterOptions() = default;
  explicit OracleRouterOptions(Groups groups) : groups_(std::move(groups)) {}
  TORCH_ARG(Groups, groups);

 public:
  template <typename Field>
  void visit(Field&& field) {
    field("groups", groups_, "the labels of each expert", at_least(0));
  }
};

/// Is told the truth: sends a token with task id t to the expert whose group holds t, with
/// probability 1. For pre-training experts on their own classes, and as the reference a learned
/// router is measured against. Has no weights; its logits are 0 and -infinity.
class OracleRouterImpl : public Cloneable<OracleRouterImpl, RouterImpl> {
 public:
  /// @throws ArgumentError when a task id is in two groups or negative.
  explicit OracleRouterImpl(OracleRouterOptions options);
  void reset() override;
  void reset_parameters(const at::Generator&) override {}
  /// @throws ArgumentError unless context.task_id is [N] int64 and every id is in a group.
  Routing forward(const torch::Tensor& tokens, const RouterContext& context) override;
  void take_experts(ExpertEdit& edit) override;
  RouterTraits traits() const override;
  int64_t num_experts() const override { return static_cast<int64_t>(options.groups().size()); }

  OracleRouterOptions options;

 private:
  torch::Tensor expert_of_task_;  // [tasks], -1 where no group holds the task
};
TORCH_MODULE(OracleRouter);

/// Refuses groups that do not give every task of the site to just one expert.
void check_oracle_router(const OracleRouterOptions& options, const LayerSite& site,
                         const std::string& where);
std::shared_ptr<RouterImpl> make_oracle_router(const OracleRouterOptions& options,
                                               const LayerSite& site);

}  // namespace moekit::nn
