#pragma once

#include "moekit/text/normalizer.h"

namespace moekit::text {

struct NormalizerSequenceOptions {
  Json normalizers;

  template <typename Field>
  void visit(Field&& field) {
    field("normalizers", normalizers, "run one after the other");
  }
};

std::unique_ptr<Normalizer> make_normalizer_sequence(const NormalizerSequenceOptions& options,
                                                     const NormalizerSite& site);

}  // namespace moekit::text
