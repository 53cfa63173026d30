#include "moekit/nn/losses/aux_loss.h"

#include <algorithm>

#include "moekit/core/error.h"

namespace moekit::nn {

AuxLoss make_aux_loss(std::string name, double coefficient,
                      std::function<torch::Tensor(const AuxLossInput&)> value) {
  AuxLoss loss{std::move(name), {}};
  if (coefficient == 0) return loss;
  loss.value = [coefficient, of = std::move(value)](const AuxLossInput& input) {
    return coefficient * of(input);
  };
  return loss;
}

void check_router_learns(double coefficient, const LossSite& site, const std::string& where) {
  const bool learns =
      std::any_of(site.layers.begin(), site.layers.end(), [](const RoutedLayer& layer) {
        return layer.router != nullptr && layer.router->traits().learns;
      });
  MOEKIT_CHECK(coefficient == 0 || learns, where, " = ", coefficient,
               ": the model has no router that learns; wanted 0");
}

void check_aux_only(const LossSite& site, const std::vector<AuxLoss>& losses) {
  const bool any = std::any_of(losses.begin(), losses.end(),
                               [](const AuxLoss& loss) { return bool(loss.value); });
  for (const auto& layer : site.layers) {
    if (any || layer.router == nullptr || !layer.router->traits().aux_only) continue;
    const auto parameters = layer.router->parameters();
    const bool learns = std::any_of(parameters.begin(), parameters.end(),
                                    [](const auto& p) { return p.requires_grad(); });
    MOEKIT_CHECK(!learns, "layer \"", layer.name,
                 "\": aux_only = true wants a loss on routing, of which the recipe has none: "
                 "nothing would train this router");
  }
}

std::vector<AuxLossTerm> aux_losses(const AuxLossInput& input, const std::vector<AuxLoss>& losses) {
  std::vector<AuxLossTerm> terms;
  for (const auto& loss : losses) {
    if (!loss.value) continue;
    auto value = loss.value(input);
    MOEKIT_CHECK(value.requires_grad() || !input.routing.logits.requires_grad(), "aux loss \"",
                 loss.name, "\" has a coefficient but gives the router no gradient");
    terms.push_back({loss.name, std::move(value)});
  }
  if (input.routing.penalty) terms.push_back({"penalty", input.routing.penalty(input.routing)});
  return terms;
}

}  // namespace moekit::nn
