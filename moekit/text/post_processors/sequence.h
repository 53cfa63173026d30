#pragma once

#include "moekit/text/post_processor.h"

namespace moekit::text {

struct PostProcessorSequenceOptions {
  Json processors;

  template <typename Field>
  void visit(Field&& field) {
    field("processors", processors, "run one after the other");
  }
};

std::unique_ptr<PostProcessor> make_post_processor_sequence(
    const PostProcessorSequenceOptions& options, const PostProcessorSite& site);

}  // namespace moekit::text
