#pragma once

#include "moekit/models/classifier.h"

namespace moekit::models {

/// One expert, no router.
struct SingleConfig {
  KindSection<nn::ExpertKinds> expert;

  template <typename Field>
  void visit(Field&& field) {
    field("expert", expert, "");
  }
};
void check_single_classifier(const SingleConfig& config, const InputShape& input,
                             const std::string& where);
std::shared_ptr<ClassifierImpl> make_single_classifier(const SingleConfig& config,
                                                       const InputShape& input);

}  // namespace moekit::models
