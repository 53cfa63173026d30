#include "moekit/text/post_processors/byte_offsets.h"

namespace moekit::text {
namespace {

class ByteOffsets : public PostProcessor {
 public:
  void apply(std::vector<std::int32_t>&) const override {}
};

}  // namespace

std::unique_ptr<PostProcessor> make_byte_offsets(const ByteLevelOptions&,
                                                 const PostProcessorSite&) {
  return std::make_unique<ByteOffsets>();
}

}  // namespace moekit::text
