#pragma once

#include <string>
#include <string_view>

#include "moekit/core/config.h"

namespace moekit::data {

/// A data set of any kind. Each kind (images, ...) is a class of its own in its own header.
class Dataset {
 public:
  virtual ~Dataset() = default;
  /// What its samples are: "images".
  virtual std::string_view kind() const = 0;
  /// What `moekit data info` shows: "summary", one sentence about its size, then whatever else
  /// there is to tell: values, and tables as objects of objects (row -> column -> value).
  virtual Json describe() const = 0;

  std::string name;
  std::string source;  ///< folder it was read from, or "generated"
};

}  // namespace moekit::data
