#include "moekit/text/post_processors/sequence.h"

#include "moekit/text/part.h"

namespace moekit::text {
namespace {

class PostProcessorSequence : public PostProcessor {
 public:
  explicit PostProcessorSequence(std::vector<std::unique_ptr<PostProcessor>> parts)
      : parts_(std::move(parts)) {}
  void apply(std::vector<std::int32_t>& ids) const override {
    for (const auto& part : parts_) part->apply(ids);
  }

 private:
  std::vector<std::unique_ptr<PostProcessor>> parts_;
};

}  // namespace

std::unique_ptr<PostProcessor> make_post_processor_sequence(
    const PostProcessorSequenceOptions& options, const PostProcessorSite& site) {
  return std::make_unique<PostProcessorSequence>(make_parts<PostProcessorKinds>(
      options.processors, PostProcessorSite{site.place.key("processors"), site.vocabulary}));
}

}  // namespace moekit::text
