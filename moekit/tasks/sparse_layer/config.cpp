#include "moekit/tasks/sparse_layer/config.h"

#include "moekit/core/error.h"

namespace moekit::sparse_layer {

void validate(const Config& config) {
  check_values(config, "");
  const auto& c = config.layer;
  MOEKIT_CHECK(c.top_k <= c.num_experts, "layer.top_k must be 1..num_experts = 1..", c.num_experts,
               "; got ", c.top_k);
  MOEKIT_CHECK(c.tokens % c.num_experts == 0,
               "layer.tokens must be a multiple of num_experts = ", c.num_experts, "; got ",
               c.tokens);
}

}  // namespace moekit::sparse_layer
