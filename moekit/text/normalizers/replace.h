#pragma once

#include "moekit/text/normalizer.h"

namespace moekit::text {

struct ReplaceOptions {
  Json pattern;
  std::string content;

  template <typename Field>
  void visit(Field&& field) {
    field("pattern", pattern, "{\"String\": ...} or {\"Regex\": ...}");
    field("content", content, "stands for what the pattern matches, as it is");
  }
};

std::unique_ptr<Normalizer> make_replace_normalizer(const ReplaceOptions& options,
                                                    const NormalizerSite& site);

}  // namespace moekit::text
