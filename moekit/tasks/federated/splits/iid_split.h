#pragma once

#include "moekit/tasks/federated/split_kinds.h"

namespace moekit::federated {

/// Every user gets samples at random, as many as the others or one less.
class IidSplit : public Split {
 public:
  std::vector<std::vector<int64_t>> deal(const torch::Tensor& labels, int64_t num_classes,
                                         int64_t users, uint64_t seed) const override;
};

std::unique_ptr<Split> make_iid_split(const NoOptions& options, const SplitSite& site);

}  // namespace moekit::federated
