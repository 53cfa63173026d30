#pragma once

#include "moekit/core/field_rule.h"
#include "moekit/tasks/federated/split_kinds.h"

namespace moekit::federated {

struct ShardSplitOptions {
  int64_t shards_per_user = 2;

  template <typename Field>
  void visit(Field&& field) {
    field("shards_per_user", shards_per_user, "of the data sorted by label", at_least(1, 1e6));
  }
};

/// Samples sorted by label and cut into shards, a few for each user at random: two of them hold two
/// classes, or little more. Source: McMahan et al. 2017, arXiv:1602.05629, section 3.
class ShardSplit : public Split {
 public:
  explicit ShardSplit(ShardSplitOptions options) : options_(options) {}
  std::vector<std::vector<int64_t>> deal(const torch::Tensor& labels, int64_t num_classes,
                                         int64_t users, uint64_t seed) const override;

 private:
  ShardSplitOptions options_;
};

std::unique_ptr<Split> make_shard_split(const ShardSplitOptions& options, const SplitSite& site);

}  // namespace moekit::federated
