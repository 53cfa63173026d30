#pragma once

#include "moekit/text/normalizer.h"

namespace moekit::text {

struct StripNormalizerOptions {
  bool strip_left = true;
  bool strip_right = true;

  template <typename Field>
  void visit(Field&& field) {
    field("strip_left", strip_left, "takes white space from the beginning");
    field("strip_right", strip_right, "and from the end");
  }
};

std::unique_ptr<Normalizer> make_strip_normalizer(const StripNormalizerOptions& options,
                                                  const NormalizerSite& site);

}  // namespace moekit::text
