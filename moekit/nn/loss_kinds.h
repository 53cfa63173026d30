#pragma once

#include <vector>

#include "moekit/core/kinds.h"
#include "moekit/nn/losses/aux_loss.h"

namespace moekit::nn {

/// The table of losses on routing: each brings its keys to a recipe's section `loss`.
struct LossKinds {
  using Row = Kind<AuxLoss, LossSite>;
  static constexpr const char* kWhat = "loss";
  static const std::vector<Row>& rows();
};

}  // namespace moekit::nn
