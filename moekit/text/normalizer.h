#pragma once

#include <memory>
#include <string>
#include <vector>

#include "moekit/core/kinds.h"
#include "moekit/text/place.h"

namespace moekit::text {

/// Changes a text before it is divided.
class Normalizer {
 public:
  virtual ~Normalizer() = default;
  /// @param text  UTF-8, before and after
  virtual void apply(std::string& text) const = 0;
};

/// What a normalizer is made for.
struct NormalizerSite {
  Place place;
};

/// The table of normalizers, by their "type" in tokenizer.json.
struct NormalizerKinds {
  using Row = Kind<std::unique_ptr<Normalizer>, NormalizerSite>;
  static constexpr const char* kWhat = "normalizer";
  static const std::vector<Row>& rows();
};

}  // namespace moekit::text
