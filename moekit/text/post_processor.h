#pragma once

#include <memory>
#include <vector>

#include "moekit/core/kinds.h"
#include "moekit/text/place.h"
#include "moekit/text/vocabulary.h"

namespace moekit::text {

/// Adds what belongs around a text's ids.
class PostProcessor {
 public:
  virtual ~PostProcessor() = default;
  virtual void apply(std::vector<std::int32_t>& ids) const = 0;
};

/// What a post-processor is made for.
struct PostProcessorSite {
  Place place;
  const Vocabulary* vocabulary = nullptr;  ///< with the added tokens
};

/// The table of post-processors, by their "type" in tokenizer.json.
struct PostProcessorKinds {
  using Row = Kind<std::unique_ptr<PostProcessor>, PostProcessorSite>;
  static constexpr const char* kWhat = "post-processor";
  static const std::vector<Row>& rows();
};

}  // namespace moekit::text
