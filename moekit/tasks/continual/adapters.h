#pragma once

#include "moekit/nn/expert_kinds.h"
#include "moekit/nn/router_kinds.h"
#include "moekit/tasks/continual/base_network.h"

namespace moekit::continual {

/// A frozen network with a mixture of experts beside its last hidden layer: features h become
/// h + scale * sum_i g_i E_i(h), with a router for each task over the same experts.
/// Source: Yu et al. 2024, arXiv:2403.11549 (experts beside frozen layers, a router a task, the
/// most used experts frozen after a task), on a small network in place of CLIP.
struct AdaptersConfig {
  BaseConfig base;
  int64_t num_experts = 8;
  double scale = 0.1;
  int64_t freeze_used = 2;
  int64_t grow = 0;
  bool shared_router = false;
  KindSection<nn::RouterKinds> router;
  KindSection<nn::ExpertKinds> expert;

  template <typename Field>
  void visit(Field&& field) {
    field("base", base, "");
    field("num_experts", num_experts, "E", at_least(1));
    field("scale", scale, "times what the experts add", above(0));
    field("freeze_used", freeze_used, "most used experts that stop learning after a task",
          at_least(0));
    field("grow", grow, "experts that each task after the first brings, for it and those to come",
          at_least(0));
    field("shared_router", shared_router, "one router for all tasks, which learns on");
    field("router", router, "");
    field("expert", expert, "");
  }
};

void check_adapters(const AdaptersConfig& config, const StreamSite& site, const std::string& where);
std::shared_ptr<StreamModel> make_adapters(const AdaptersConfig& config, const StreamSite& site);

}  // namespace moekit::continual
