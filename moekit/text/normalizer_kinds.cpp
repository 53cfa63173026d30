#include "moekit/text/normalizer.h"
#include "moekit/text/normalizers/lowercase.h"
#include "moekit/text/normalizers/prepend.h"
#include "moekit/text/normalizers/replace.h"
#include "moekit/text/normalizers/sequence.h"
#include "moekit/text/normalizers/strip.h"
#include "moekit/text/normalizers/unicode_form.h"

namespace moekit::text {

const std::vector<NormalizerKinds::Row>& NormalizerKinds::rows() {
  static const std::vector<Row> kRows = {
      kind<&make_nfc>("NFC", "characters composed"),
      kind<&make_nfd>("NFD", "characters decomposed"),
      kind<&make_nfkc>("NFKC", "composed, compatible characters made equal"),
      kind<&make_nfkd>("NFKD", "decomposed, compatible characters made equal"),
      kind<&make_lowercase>("Lowercase", "capitals made small"),
      kind<&make_prepend>("Prepend", "a text before every text that is not empty"),
      kind<&make_replace_normalizer>("Replace", "a text in place of what a pattern matches"),
      kind<&make_strip_normalizer>("Strip", "white space taken from the ends"),
      kind<&make_normalizer_sequence>("Sequence", "one after the other"),
  };
  return kRows;
}

}  // namespace moekit::text
