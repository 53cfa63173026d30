#pragma once

#include <vector>

#include "moekit/nn/losses/aux_loss.h"

namespace moekit::train {

/// Losses on routing over the parts of a batch together, and their gradients part by part.
class JoinedLosses {
 public:
  /// @param parts  routings of each part, without graph; the same layers in each
  JoinedLosses(const std::vector<std::vector<nn::LayerRouting>>& parts,
               const std::vector<nn::AuxLoss>& losses);

  /// The joined routings, without graph.
  const std::vector<nn::LayerRouting>& layers() const { return layers_; }
  /// Per layer, the losses over the whole batch.
  const std::vector<std::vector<nn::AuxLossTerm>>& terms() const { return terms_; }
  /// A scalar whose gradient is that of the losses with respect to this part; undefined where none
  /// flows. @param layers  of the part, with graph
  torch::Tensor pull_back(size_t part, const std::vector<nn::LayerRouting>& layers) const;

 private:
  struct Begin {
    int64_t token = 0, assignment = 0;
  };
  std::vector<nn::LayerRouting> layers_;
  std::vector<std::vector<Begin>> begins_;             ///< [parts][layers]
  std::vector<std::vector<torch::Tensor>> gradients_;  ///< [layers][fields], undefined for none
  std::vector<std::vector<nn::AuxLossTerm>> terms_;
};

}  // namespace moekit::train
