#include "moekit/train/optimizers/groups.h"

#include <fnmatch.h>

#include "moekit/core/error.h"

namespace moekit::train {

std::vector<std::vector<torch::Tensor>> split_parameters(const OptimizerSite& site) {
  std::vector<std::vector<torch::Tensor>> parameters(site.groups.size() + 1);
  for (const auto& item : site.module->named_parameters()) {
    if (!item.value().requires_grad()) continue;
    size_t group = 0;
    for (size_t g = 0; g < site.groups.size() && group == 0; ++g) {
      const std::string pattern = site.groups[g].match + "*";
      if (::fnmatch(pattern.c_str(), item.key().c_str(), 0) == 0) group = g + 1;
    }
    parameters[group].push_back(item.value());
  }
  for (size_t g = 0; g < site.groups.size(); ++g) {
    MOEKIT_CHECK(!parameters[g + 1].empty(), "train.groups[", g, "].match = \"",
                 site.groups[g].match, "\" fits no parameter that learns");
  }
  return parameters;
}

void check_no_normalize(const OptimizerSite& site, const std::string& where) {
  for (size_t g = 0; g < site.groups.size(); ++g) {
    MOEKIT_CHECK(!site.groups[g].normalize, where, ".groups[", g,
                 "].normalize = true belongs together with ", where,
                 ".optimizer = \"normalized_gd\"");
  }
}

}  // namespace moekit::train
