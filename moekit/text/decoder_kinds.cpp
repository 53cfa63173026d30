#include "moekit/text/decoder.h"
#include "moekit/text/decoders/byte_fallback.h"
#include "moekit/text/decoders/fuse.h"
#include "moekit/text/decoders/metaspace.h"
#include "moekit/text/decoders/replace.h"
#include "moekit/text/decoders/sequence.h"
#include "moekit/text/decoders/strip.h"
#include "moekit/text/decoders/unspell.h"

namespace moekit::text {

const std::vector<DecoderKinds::Row>& DecoderKinds::rows() {
  static const std::vector<Row> kRows = {
      kind<&make_unspell>("ByteLevel", "the bytes that characters spell"),
      kind<&make_replace_decoder>("Replace", "a text in place of what a pattern matches"),
      kind<&make_byte_fallback>("ByteFallback", "the bytes that tokens <0x..> name"),
      kind<&make_fuse>("Fuse", "all tokens made one"),
      kind<&make_strip_decoder>("Strip", "a character taken from the ends of tokens"),
      kind<&make_metaspace_decoder>("Metaspace", "spaces for their replacement"),
      kind<&make_decoder_sequence>("Sequence", "one after the other"),
  };
  return kRows;
}

}  // namespace moekit::text
