#include "moekit/text/decoders/fuse.h"

namespace moekit::text {
namespace {

class Fuse : public Decoder {
 public:
  void apply(std::vector<std::string>& tokens) const override {
    std::string all;
    for (const auto& token : tokens) all += token;
    tokens.clear();
    tokens.push_back(std::move(all));
  }
};

}  // namespace

std::unique_ptr<Decoder> make_fuse(const NoOptions&, const DecoderSite&) {
  return std::make_unique<Fuse>();
}

}  // namespace moekit::text
