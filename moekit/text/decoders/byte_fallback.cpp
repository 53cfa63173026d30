#include "moekit/text/decoders/byte_fallback.h"

#include <charconv>
#include <optional>

namespace moekit::text {
namespace {

/// The byte of a token like "<0x0A>".
std::optional<char> byte_named(const std::string& token) {
  if (token.size() != 6 || token.compare(0, 3, "<0x") != 0 || token.back() != '>') return {};
  unsigned char byte = 0;
  const char* const end = token.data() + 5;
  const auto read = std::from_chars(token.data() + 3, end, byte, 16);
  if (read.ec != std::errc() || read.ptr != end) return {};
  return static_cast<char>(byte);
}

class ByteFallback : public Decoder {
 public:
  void apply(std::vector<std::string>& tokens) const override {
    std::vector<std::string> out;
    std::string bytes;  // not yet given out
    const auto flush = [&] {
      if (bytes.empty()) return;
      if (is_utf8(bytes)) {
        out.push_back(bytes);
      } else {
        out.insert(out.end(), bytes.size(), "\xEF\xBF\xBD");
      }
      bytes.clear();
    };
    for (auto& token : tokens) {
      if (const auto byte = byte_named(token)) {
        bytes += *byte;
      } else {
        flush();
        out.push_back(std::move(token));
      }
    }
    flush();
    tokens = std::move(out);
  }
};

}  // namespace

std::unique_ptr<Decoder> make_byte_fallback(const NoOptions&, const DecoderSite&) {
  return std::make_unique<ByteFallback>();
}

}  // namespace moekit::text
