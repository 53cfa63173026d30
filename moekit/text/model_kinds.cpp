#include <fmt/format.h>

#include "moekit/text/model.h"
#include "moekit/text/models/bpe.h"
#include "moekit/text/models/unigram.h"

namespace moekit::text {

const std::vector<ModelKinds::Row>& ModelKinds::rows() {
  static const std::vector<Row> kRows = {
      kind<&make_bpe>("BPE", "pairs merged, those learned first before others"),
      kind<&make_unigram>("Unigram", "the most probable sequence of tokens"),
  };
  return kRows;
}

std::vector<std::int32_t> byte_tokens(const Vocabulary& vocabulary) {
  std::vector<std::int32_t> ids;
  ids.reserve(256);
  for (int byte = 0; byte < 256; ++byte) {
    ids.push_back(vocabulary.find(fmt::format("<0x{:02X}>", byte)).value_or(-1));
  }
  return ids;
}

}  // namespace moekit::text
