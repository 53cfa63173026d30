#pragma once

#include "moekit/core/field_rule.h"
#include "moekit/models/classifier.h"

namespace moekit::models {

/// Pixels -> D, one sparse MoE layer with a residual connection, D -> classes.
struct SparseConfig {
  int64_t num_experts = 5;
  int64_t hidden_size = 64;
  nn::CapacityOptions capacity;
  int64_t num_shared_experts = 0;
  KindSection<nn::ExpertKinds> expert{Choice<nn::ExpertKinds>("mlp")};
  KindSection<nn::RouterKinds> router;

  template <typename Field>
  void visit(Field&& field) {
    field("num_experts", num_experts, "E", at_least(1));
    field("hidden_size", hidden_size, "D of the sparse model", at_least(1));
    capacity.visit(field);
    field("num_shared_experts", num_shared_experts, "of the sparse layer", at_least(0));
    field("expert", expert, "");
    field("router", router, "");
  }
};
void check_sparse_classifier(const SparseConfig& config, const InputShape& input,
                             const std::string& where);
std::shared_ptr<ClassifierImpl> make_sparse_classifier(const SparseConfig& config,
                                                       const InputShape& input);

}  // namespace moekit::models
