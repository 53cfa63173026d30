#include "moekit/text/tokenizer.h"
#include "tests/fuzz/input.h"

// A tokenizer.json, and what it makes of some texts; bytes behind a NUL are such a text.
extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace moekit;
  return fuzz::read_untrusted([&] {
    const std::string_view input = fuzz::as_text(data, size);
    const std::size_t end = std::min(input.find('\0'), input.size());
    const auto tokenizer =
        text::Tokenizer::parse(std::string(input.substr(0, end)), "tokenizer.json");
    // Short ones: a pattern may take a bounded time for every character.
    const std::string_view own = input.substr(end).substr(0, 64);
    for (const std::string_view words : {std::string_view("It's 12 \xc3\xa9  <s>\n"), own}) {
      fuzz::read_untrusted([&] {
        const auto ids = tokenizer.encode(words, true);
        for (const auto id : ids) tokenizer.token_text(id);
        tokenizer.decode(ids);
        tokenizer.decode(ids, true);
      });
    }
    fuzz::read_untrusted([&] { tokenizer.decode(std::vector<std::int32_t>{0, 1, 2, 3}); });
  });
}
