#pragma once

#include <cstdint>

#include "moekit/text/decoder.h"

namespace moekit::text {

struct StripDecoderOptions {
  std::string content = " ";
  std::int64_t start = 0;
  std::int64_t stop = 0;

  template <typename Field>
  void visit(Field&& field) {
    field("content", content, "a character");
    field("start", start, "so many at most are taken from the beginning of each token",
          at_least(0));
    field("stop", stop, "and from the end", at_least(0));
  }
};

std::unique_ptr<Decoder> make_strip_decoder(const StripDecoderOptions& options,
                                            const DecoderSite& site);

}  // namespace moekit::text
