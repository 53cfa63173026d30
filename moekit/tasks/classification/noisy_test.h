#pragma once

#include <memory>

#include "moekit/core/field_rule.h"
#include "moekit/tasks/classification/config.h"

namespace moekit::classification {

/// In the end also judges the model with the router's noise left on, as
/// `noisy_test` and `noisy_train` of the summary.
/// Source: the released code of Chen et al. 2022, arXiv:2208.02813.
struct NoisyTestOptions {
  bool noisy_test = false;

  template <typename Field>
  void visit(Field&& field) {
    field("noisy_test", noisy_test, "in the end also judge with the router's noise left on",
          changeable());
  }
};
/// Refuses a model whose routers add no noise.
void check_noisy_test(const NoisyTestOptions& options, const CallbackSite& site,
                      const std::string& where);
/// Null unless it is on.
std::unique_ptr<train::Callback> make_noisy_test(const NoisyTestOptions& options,
                                                 const CallbackSite& site);

}  // namespace moekit::classification
