#include "moekit/text/decoders/unspell.h"

#include "moekit/text/byte_alphabet.h"

namespace moekit::text {
namespace {

class Unspell : public Decoder {
 public:
  void apply(std::vector<std::string>& tokens) const override {
    std::string bytes;
    for (const auto& token : tokens) bytes += bytes_spelt(token).value_or(token);
    tokens.clear();
    tokens.push_back(std::move(bytes));
  }
};

}  // namespace

std::unique_ptr<Decoder> make_unspell(const ByteLevelOptions&, const DecoderSite&) {
  return std::make_unique<Unspell>();
}

}  // namespace moekit::text
