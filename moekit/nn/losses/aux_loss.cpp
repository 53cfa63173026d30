#include "moekit/nn/losses/aux_loss.h"

#include <torch/types.h>

#include "moekit/core/error.h"
#include "moekit/nn/losses/balance_loss.h"
#include "moekit/nn/losses/entropy_loss.h"
#include "moekit/nn/losses/importance_loss.h"
#include "moekit/nn/losses/load_loss.h"
#include "moekit/nn/losses/router_z_loss.h"

namespace moekit::nn {
namespace {

struct Row {
  const char* name;
  bool (*wanted)(const AuxLossOptions&);
  torch::Tensor (*value)(const AuxLossInput&, const AuxLossOptions&);
};

constexpr Row kLosses[] = {
    {"importance", [](const AuxLossOptions& o) { return o.importance != 0; },
     [](const AuxLossInput& in, const AuxLossOptions& o) {
       return o.importance * importance_loss(in.routing.probs);
     }},
    {"load", [](const AuxLossOptions& o) { return o.load != 0; },
     [](const AuxLossInput& in, const AuxLossOptions& o) {
       return o.load * load_loss(in.routing);
     }},
    {"balance", [](const AuxLossOptions& o) { return o.balance != 0; },
     [](const AuxLossInput& in, const AuxLossOptions& o) {
       return o.balance * load_balance_loss(in.routing.probs, in.routing.expert_index);
     }},
    {"router_z", [](const AuxLossOptions& o) { return o.router_z != 0; },
     [](const AuxLossInput& in, const AuxLossOptions& o) {
       return o.router_z * router_z_loss(in.routing.logits);
     }},
    {"entropy", [](const AuxLossOptions& o) { return o.entropy != 0; },
     [](const AuxLossInput& in, const AuxLossOptions& o) {
       return o.entropy * entropy_loss(in.routing.logits);
     }},
    {"similarity",
     [](const AuxLossOptions& o) { return o.similarity_same != 0 || o.similarity_different != 0; },
     [](const AuxLossInput& in, const AuxLossOptions& o) {
       auto distance = pairwise_distance(in.samples);
       // The smallest normal number: a batch of equal images has distance 0 to all, not 0 / 0.
       if (o.similarity_relative) distance = distance / distance.max().clamp_min(1.2e-38);
       return sample_similarity_loss(
           in.routing.probs, distance,
           {o.similarity_same, o.similarity_different, o.similarity_scale});
     }},
};

}  // namespace

std::vector<AuxLossTerm> aux_losses(const AuxLossInput& input, const AuxLossOptions& options) {
  std::vector<AuxLossTerm> terms;
  for (const Row& row : kLosses) {
    if (!row.wanted(options)) continue;
    auto value = row.value(input, options);
    MOEKIT_CHECK(value.requires_grad() || !input.routing.logits.requires_grad(), "aux loss \"",
                 row.name, "\" has a coefficient but gives the router no gradient");
    terms.push_back({row.name, std::move(value)});
  }
  return terms;
}

}  // namespace moekit::nn
