#pragma once

#include "moekit/text/post_processor.h"

namespace moekit::text {

struct TemplateOptions {
  Json single;
  Json pair;
  Json special_tokens;

  template <typename Field>
  void visit(Field&& field) {
    field("single", single, "special tokens, and the text as sequence A");
    field("pair", pair, "of two texts at once, which are not encoded here");
    field("special_tokens", special_tokens, "the ids of each special token of the templates");
  }
};

/// Special tokens before and behind the text, as `single` has them.
/// @throws FormatError also for ids that are no token's
std::unique_ptr<PostProcessor> make_template_processing(const TemplateOptions& options,
                                                        const PostProcessorSite& site);

}  // namespace moekit::text
