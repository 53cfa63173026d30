#pragma once

#include <string>
#include <vector>

#include "moekit/nn/losses/sample_similarity_loss.h"
#include "moekit/nn/routing.h"

namespace moekit::nn {

/// Coefficients of the losses on a router's decisions; a coefficient of 0 leaves the loss out.
struct AuxLossOptions {
  double importance = 0;
  double load = 0;
  double balance = 0;
  double router_z = 0;
  double entropy = 0;
  double similarity_same = 0;       ///< beta_s of the sample-similarity loss
  double similarity_different = 0;  ///< beta_d
  SimilarityScale similarity_scale = SimilarityScale::kMean;
  bool similarity_relative = false;

  template <typename Field>
  void visit(Field&& field) {
    field("importance", importance, "equal mass per expert (Shazeer et al. 2017)");
    field("load", load, "equal number of tokens per expert, needs noise = \"gaussian\"");
    field("balance", balance, "load-balance loss (Fedus et al. 2021)");
    field("router_z", router_z, "small logits (Zoph et al. 2022)");
    field("entropy", entropy, "sure decisions; negative for undecided ones");
    field("similarity_same", similarity_same, "beta_s: similar samples share an expert");
    field("similarity_different", similarity_different, "beta_d: dissimilar samples do not");
    field("similarity_scale", similarity_scale, "both sums by N^2, or as the released code");
    field("similarity_relative", similarity_relative, "distances over the batch's largest");
  }
};

/// What the losses may look at.
struct AuxLossInput {
  const Routing& routing;
  const torch::Tensor& samples;  ///< the layer's inputs [N, ...], for distances between them
};

struct AuxLossTerm {
  std::string name;
  torch::Tensor value;  ///< times its coefficient, a scalar
};

/// All losses with a coefficient other than 0, each times its coefficient, in a fixed order. A new
/// loss is a function of its own and one row of the table in the source.
/// @throws ArgumentError when a loss that is asked for cannot act here: its value carries no
///         gradient although the router's logits do.
std::vector<AuxLossTerm> aux_losses(const AuxLossInput& input, const AuxLossOptions& options);

}  // namespace moekit::nn
