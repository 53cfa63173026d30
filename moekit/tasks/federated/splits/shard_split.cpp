#include "moekit/tasks/federated/splits/shard_split.h"

#include <torch/torch.h>

#include "moekit/core/random.h"

namespace moekit::federated {

std::vector<std::vector<int64_t>> ShardSplit::deal(const torch::Tensor& labels,
                                                   int64_t /*num_classes*/, int64_t users,
                                                   uint64_t seed) const {
  const int64_t each = options_.shards_per_user;
  const int64_t shards = users * each;
  MOEKIT_CHECK(labels.size(0) >= shards, "split.shards_per_user = ", each, ": ", users,
               " users take ", shards, " shards, but there are ", labels.size(0), " images");
  // Stable: samples of one class stay in the data set's order.
  const auto index =
      std::get<1>(torch::sort(labels, /*stable=*/true, 0, /*descending=*/false)).contiguous();
  const std::vector<int64_t> sorted(index.data_ptr<int64_t>(),
                                    index.data_ptr<int64_t>() + index.numel());
  const auto dealt = random_permutation(shards, seed);
  std::vector<std::vector<int64_t>> out(static_cast<size_t>(users));
  for (int64_t i = 0; i < shards; ++i) {
    const auto shard = cut(sorted, dealt[static_cast<size_t>(i)], shards);
    auto& own = out[static_cast<size_t>(i / each)];
    own.insert(own.end(), shard.begin(), shard.end());
  }
  return out;
}

std::unique_ptr<Split> make_shard_split(const ShardSplitOptions& options, const SplitSite&) {
  return std::make_unique<ShardSplit>(options);
}

}  // namespace moekit::federated
