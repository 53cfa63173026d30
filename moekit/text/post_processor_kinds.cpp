#include "moekit/text/post_processor.h"
#include "moekit/text/post_processors/byte_offsets.h"
#include "moekit/text/post_processors/sequence.h"
#include "moekit/text/post_processors/template_processing.h"

namespace moekit::text {

const std::vector<PostProcessorKinds::Row>& PostProcessorKinds::rows() {
  static const std::vector<Row> kRows = {
      kind<&make_byte_offsets>("ByteLevel", "nothing: it moves places in the text alone"),
      kind<&make_template_processing>("TemplateProcessing", "special tokens around the text"),
      kind<&make_post_processor_sequence>("Sequence", "one after the other"),
  };
  return kRows;
}

}  // namespace moekit::text
