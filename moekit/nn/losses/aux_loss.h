#pragma once

#include <functional>
#include <string>
#include <vector>

#include "moekit/nn/precision.h"
#include "moekit/nn/routed_layer.h"

namespace moekit::nn {

/// What a loss on a router's decisions may look at.
struct AuxLossInput {
  const Routing& routing;
  const torch::Tensor& samples;  ///< the layer's inputs [N, ...], for distances between them
};

/// One loss, times its coefficient. A new one is a kind: options, a check and a make in a file of
/// its own, and a row of the table in nn/loss_kinds.cpp.
struct AuxLoss {
  std::string name;
  std::function<torch::Tensor(const AuxLossInput&)> value;  ///< a scalar; empty: not wanted
};

/// What losses are made for: the layers whose routers they act on.
struct LossSite {
  std::vector<RoutedLayer> layers;
};

/// The loss `value` times `coefficient`; one that is not wanted for a coefficient of 0.
AuxLoss make_aux_loss(std::string name, double coefficient,
                      std::function<torch::Tensor(const AuxLossInput&)> value);

/// Refuses a loss for a model without a router that learns. @param where  path of the loss's key
/// @throws ArgumentError
void check_router_learns(double coefficient, const LossSite& site, const std::string& where);

/// Refuses a model with a router that only losses on routing train (its option aux_only) when there
/// is none and the router is not frozen. @throws ArgumentError naming the layer
void check_aux_only(const LossSite& site, const std::vector<AuxLoss>& losses);

struct AuxLossTerm {
  std::string name;
  torch::Tensor value;  ///< times its coefficient, a scalar
};

/// Those losses that are wanted, in order, and the routing's own one behind them.
/// @throws ArgumentError when a loss that is asked for cannot act here: its value carries no
///         gradient although the router's logits do.
std::vector<AuxLossTerm> aux_losses(const AuxLossInput& input, const std::vector<AuxLoss>& losses);

}  // namespace moekit::nn
