#pragma once

#include <memory>
#include <string>
#include <vector>

#include "moekit/core/kinds.h"
#include "moekit/text/place.h"

namespace moekit::text {

/// Turns tokens back into text: joined, what the last one leaves is the text.
class Decoder {
 public:
  virtual ~Decoder() = default;
  /// @param tokens  UTF-8, as the vocabulary spells them; afterwards any bytes
  virtual void apply(std::vector<std::string>& tokens) const = 0;
};

/// What a decoder is made for.
struct DecoderSite {
  Place place;
};

/// The table of decoders, by their "type" in tokenizer.json.
struct DecoderKinds {
  using Row = Kind<std::unique_ptr<Decoder>, DecoderSite>;
  static constexpr const char* kWhat = "decoder";
  static const std::vector<Row>& rows();
};

}  // namespace moekit::text
