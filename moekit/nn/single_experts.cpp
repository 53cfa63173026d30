#include "moekit/nn/single_experts.h"

#include "moekit/core/error.h"

namespace moekit::nn {

std::string why_not_single(const ExpertsImpl& experts) {
  if (!experts.separate_parameters().empty()) return {};
  const auto shared = experts.shared_parameters();
  for (const auto& item : experts.named_parameters()) {
    const auto& parameter = item.value();
    if (is_one_of(parameter, shared)) continue;
    if (parameter.dim() >= 1 && parameter.size(0) == experts.num_experts()) continue;
    return concat("its experts are not of one kind: ", item.key(), " ", parameter.sizes(),
                  " has no row for each of ", experts.num_experts());
  }
  return {};
}

}  // namespace moekit::nn
