#pragma once

#include "moekit/text/pre_tokenizer.h"

namespace moekit::text {

struct DigitsOptions {
  bool individual_digits = false;

  template <typename Field>
  void visit(Field&& field) {
    field("individual_digits", individual_digits, "each digit is a piece of its own");
  }
};

/// Numbers are pieces of their own. A digit is whatever is of Unicode's category N.
std::unique_ptr<PreTokenizer> make_digits(const DigitsOptions& options,
                                          const PreTokenizerSite& site);

}  // namespace moekit::text
