#pragma once

#include "moekit/text/decoder.h"

namespace moekit::text {

struct DecoderSequenceOptions {
  Json decoders;

  template <typename Field>
  void visit(Field&& field) {
    field("decoders", decoders, "run one after the other");
  }
};

std::unique_ptr<Decoder> make_decoder_sequence(const DecoderSequenceOptions& options,
                                               const DecoderSite& site);

}  // namespace moekit::text
