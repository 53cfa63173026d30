#pragma once

#include "moekit/text/normalizer.h"

namespace moekit::text {

struct PrependOptions {
  std::string prepend;

  template <typename Field>
  void visit(Field&& field) {
    field("prepend", prepend, "stands before every text that is not empty");
  }
};

std::unique_ptr<Normalizer> make_prepend(const PrependOptions& options, const NormalizerSite& site);

}  // namespace moekit::text
