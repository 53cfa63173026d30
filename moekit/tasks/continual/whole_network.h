#pragma once

#include "moekit/tasks/continual/base_network.h"

namespace moekit::continual {

/// The network alone, all of whose weights learn on with every task: sequential fine-tuning.
struct WholeNetworkConfig {
  BaseConfig base;

  template <typename Field>
  void visit(Field&& field) {
    field("base", base, "");
  }
};

void check_whole_network(const WholeNetworkConfig& config, const StreamSite& site,
                         const std::string& where);
std::shared_ptr<StreamModel> make_whole_network(const WholeNetworkConfig& config,
                                                const StreamSite& site);

}  // namespace moekit::continual
