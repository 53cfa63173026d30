#pragma once

#include "moekit/text/split_pieces.h"

namespace moekit::text {

struct SplitOptions {
  Json pattern;
  SplitBehavior behavior = SplitBehavior::kIsolated;
  bool invert = false;

  template <typename Field>
  void visit(Field&& field) {
    field("pattern", pattern, "{\"String\": ...} or {\"Regex\": ...}");
    field("behavior", behavior, "what becomes of a match");
    field("invert", invert, "what lies between matches counts as match");
  }
};

std::unique_ptr<PreTokenizer> make_split(const SplitOptions& options, const PreTokenizerSite& site);

}  // namespace moekit::text
