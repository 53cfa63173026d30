#pragma once

#include <memory>
#include <vector>

#include "moekit/core/kinds.h"
#include "moekit/nn/experts.h"
#include "moekit/nn/layer_site.h"

namespace moekit::nn {

/// The table of experts that recipes can name.
struct ExpertKinds {
  using Row = Kind<std::shared_ptr<ExpertsImpl>, LayerSite>;
  static constexpr const char* kDefault = "conv";
  static constexpr const char* kWhat = "kind of expert";
  static constexpr const char* kDoc = "kind of expert";
  static constexpr const char* kOptionsKey = "";
  static const std::vector<Row>& rows();
};

}  // namespace moekit::nn
