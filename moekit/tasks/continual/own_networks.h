#pragma once

#include <vector>

#include "moekit/core/field_rule.h"
#include "moekit/tasks/continual/stream_model.h"

namespace moekit::continual {

/// An expert for each task: plain networks of fully connected layers of which the first may be
/// shared, to see what sharing costs. A task to come is answered by the newest.
/// Source of the question: Park 2024, arXiv:2405.11530, table 1.
struct OwnNetworksConfig {
  std::vector<int64_t> hidden = {128, 64};
  int64_t shared_layers = 0;

  template <typename Field>
  void visit(Field&& field) {
    field("hidden", hidden, "sizes of the hidden layers; one more gives the classes", at_least(1));
    field("shared_layers", shared_layers, "first layers that all tasks share", at_least(0));
  }
};

void check_own_networks(const OwnNetworksConfig& config, const StreamSite& site,
                        const std::string& where);
std::shared_ptr<StreamModel> make_own_networks(const OwnNetworksConfig& config,
                                               const StreamSite& site);

}  // namespace moekit::continual
