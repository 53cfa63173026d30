#include "moekit/text/pre_tokenizer.h"
#include "moekit/text/pre_tokenizers/byte_level.h"
#include "moekit/text/pre_tokenizers/digits.h"
#include "moekit/text/pre_tokenizers/metaspace.h"
#include "moekit/text/pre_tokenizers/sequence.h"
#include "moekit/text/pre_tokenizers/split.h"

namespace moekit::text {

const std::vector<PreTokenizerKinds::Row>& PreTokenizerKinds::rows() {
  static const std::vector<Row> kRows = {
      kind<&make_byte_level>("ByteLevel", "words of GPT-2, as bytes"),
      kind<&make_split>("Split", "where a pattern matches"),
      kind<&make_digits>("Digits", "numbers by themselves"),
      kind<&make_metaspace>("Metaspace", "before every space, which becomes a visible character"),
      kind<&make_pre_tokenizer_sequence>("Sequence", "one after the other"),
  };
  return kRows;
}

}  // namespace moekit::text
