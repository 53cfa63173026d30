#pragma once

#include <memory>

#include "moekit/core/kinds.h"
#include "moekit/train/callback.h"

namespace moekit::train {

/// Ends a run when the validation loss of its lines of metrics no longer falls.
struct PatienceOptions {
  int64_t patience = 0;

  template <typename Field>
  void visit(Field&& field) {
    field("patience", patience, "stop after so many tests without a better validation loss",
          at_least(0));
  }
};
void check_patience(const PatienceOptions& options, const CallbackSite& site,
                    const std::string& where);
/// Null for a patience of 0.
std::unique_ptr<Callback> make_patience(const PatienceOptions& options, const CallbackSite& site);

}  // namespace moekit::train
