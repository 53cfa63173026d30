#pragma once

#include "moekit/core/field_rule.h"
#include "moekit/models/classifier.h"
#include "moekit/nn/mixture.h"

namespace moekit::models {

/// The classical mixture of whole classifiers.
struct MixtureConfig {
  int64_t num_experts = 5;
  nn::MixtureForm form = nn::MixtureForm::kExpectation;
  KindSection<nn::ExpertKinds> expert;
  KindSection<nn::RouterKinds> router;

  template <typename Field>
  void visit(Field&& field) {
    field("num_experts", num_experts, "E", at_least(1));
    field("form", form, "how a mixture joins its experts");
    field("expert", expert, "");
    field("router", router, "");
  }
};
/// Form top_k goes with a router that chooses fewer than all experts, the others with one that
/// takes all.
void check_mixture_classifier(const MixtureConfig& config, const InputShape& input,
                              const std::string& where);
std::shared_ptr<ClassifierImpl> make_mixture_classifier(const MixtureConfig& config,
                                                        const InputShape& input);

}  // namespace moekit::models
