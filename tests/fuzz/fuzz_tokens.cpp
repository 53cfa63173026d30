#include "moekit/text/token_file.h"
#include "tests/fuzz/input.h"

// A token file: its header, documents, and every id.
extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace moekit;
  const auto path = fuzz::as_file(data, size);
  return fuzz::read_untrusted([&] {
    const text::TokenFile file(path);
    for (std::int64_t i = 0; i < file.documents(); ++i) {
      file.begin_of(i);
      file.domains().at(static_cast<std::size_t>(file.domain_of(i)));
    }
    for (std::int64_t i = 0; i < file.tokens().size(); ++i) {
      file.document_of(i);
      file.tokens()[i];
    }
  });
}
