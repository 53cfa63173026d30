#include "moekit/nn/routers/oracle_router.h"

#include <limits>
#include <map>

#include "moekit/core/error.h"

namespace moekit::nn {

OracleRouterImpl::OracleRouterImpl(OracleRouterOptions options_) : options(std::move(options_)) {
  reset();
}

void OracleRouterImpl::reset() {
  std::map<int64_t, int64_t> owner;
  int64_t last = -1;
  for (size_t e = 0; e < options.groups().size(); ++e) {
    for (const int64_t task : options.groups()[e]) {
      MOEKIT_CHECK(task >= 0, "OracleRouter: task ids start at 0; group ", e, " has ", task);
      const auto [found, added] = owner.emplace(task, static_cast<int64_t>(e));
      MOEKIT_CHECK(added, "OracleRouter: task ", task, " is in group ", found->second,
                   " and in group ", e);
      last = std::max(last, task);
    }
  }
  expert_of_task_ = torch::full({last + 1}, -1, torch::kLong);
  for (const auto& [task, expert] : owner) expert_of_task_[task] = expert;
}

Routing OracleRouterImpl::forward(const torch::Tensor& tokens, const RouterContext& context) {
  const auto& task = context.task_id;
  MOEKIT_CHECK(task.defined() && task.dim() == 1 && task.size(0) == tokens.size(0) &&
                   task.scalar_type() == torch::kLong,
               "OracleRouter: needs one int64 task id a token");
  if (task.numel() > 0) {
    const auto highest = task.max().item<int64_t>();
    MOEKIT_CHECK(task.min().item<int64_t>() >= 0 && highest < expert_of_task_.size(0),
                 "OracleRouter: task id ", highest, " is in no group");
  }
  const auto expert = expert_of_task_.index_select(0, task);
  MOEKIT_CHECK((expert >= 0).all().item<bool>(), "OracleRouter: a task id is in no group");
  const auto logits =
      torch::full({task.size(0), num_experts()}, -std::numeric_limits<float>::infinity())
          .scatter(1, expert.unsqueeze(1), 0.0);
  return route(logits);
}

void OracleRouterImpl::take_experts(ExpertEdit& edit) {
  OracleRouterOptions::Groups groups;
  for (int64_t i = 0; i < edit.index.numel(); ++i) {
    groups.push_back(options.groups()[static_cast<size_t>(edit.index[i].item<int64_t>())]);
  }
  // Refuses an expert that is named twice: which of the two would get its tasks?
  const OracleRouterImpl edited{OracleRouterOptions(std::move(groups))};
  edit.then([this, own = edited.options, experts = edited.expert_of_task_] {
    options = own;
    expert_of_task_ = experts;
  });
}

RouterTraits OracleRouterImpl::traits() const {
  RouterTraits traits;
  traits.learns = false;
  return traits;
}

void check_oracle_router(const OracleRouterOptions& options, const LayerSite& site,
                         const std::string& where) {
  const auto& groups = options.groups();
  MOEKIT_CHECK(static_cast<int64_t>(groups.size()) == site.num_experts, where,
               ".groups: wants one group of labels an expert, ", site.num_experts, "; got ",
               groups.size());
  std::vector<int> seen(static_cast<size_t>(site.num_tasks), 0);
  for (const auto& group : groups) {
    for (const int64_t label : group) {
      MOEKIT_CHECK(label >= 0 && label < site.num_tasks, where, ".groups: label ", label,
                   "; there are ", site.num_tasks);
      MOEKIT_CHECK(seen[static_cast<size_t>(label)]++ == 0, where, ".groups: label ", label,
                   " is in two groups");
    }
  }
  for (size_t label = 0; label < seen.size(); ++label) {
    MOEKIT_CHECK(seen[label] == 1, where, ".groups: label ", label, " is in no group");
  }
}

std::shared_ptr<RouterImpl> make_oracle_router(const OracleRouterOptions& options,
                                               const LayerSite& /*site*/) {
  return std::make_shared<OracleRouterImpl>(options);
}

}  // namespace moekit::nn
