#pragma once

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "moekit/train/optimizer_kinds.h"

namespace moekit::train {

/// Parameters that learn: those of no group first, then group by group; a parameter goes to the
/// first group that fits. @throws ArgumentError when a group fits none.
std::vector<std::vector<torch::Tensor>> split_parameters(const OptimizerSite& site);

/// Refuses groups that are to be normalised by an optimizer that does not.
/// @param where  path of the section
void check_no_normalize(const OptimizerSite& site, const std::string& where);

/// Parameter groups with the options of libtorch's optimizer, changed as the recipe's groups say.
template <typename Options>
std::vector<torch::optim::OptimizerParamGroup> make_groups(const OptimizerSite& site,
                                                           const Options& base) {
  auto parameters = split_parameters(site);
  std::vector<torch::optim::OptimizerParamGroup> groups;
  for (size_t g = 0; g < parameters.size(); ++g) {
    auto options = std::make_unique<Options>(base);
    if (g > 0) {
      options->lr(site.lr * site.groups[g - 1].lr_scale);
      options->weight_decay(site.groups[g - 1].weight_decay);
    }
    groups.emplace_back(std::move(parameters[g]), std::move(options));
  }
  return groups;
}

}  // namespace moekit::train
