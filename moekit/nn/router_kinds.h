#pragma once

#include <memory>
#include <vector>

#include "moekit/core/kinds.h"
#include "moekit/nn/layer_site.h"
#include "moekit/nn/router.h"

namespace moekit::nn {

/// The table of routers that recipes can name.
struct RouterKinds {
  using Row = Kind<std::shared_ptr<RouterImpl>, LayerSite>;
  static constexpr const char* kDefault = "linear";
  static constexpr const char* kWhat = "router";
  static constexpr const char* kDoc = "kind of router";
  static constexpr const char* kOptionsKey = "";
  static const std::vector<Row>& rows();
};

}  // namespace moekit::nn
