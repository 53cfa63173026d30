#include "moekit/tasks/federated/splits/iid_split.h"

#include "moekit/core/random.h"

namespace moekit::federated {

std::vector<std::vector<int64_t>> IidSplit::deal(const torch::Tensor& labels,
                                                 int64_t /*num_classes*/, int64_t users,
                                                 uint64_t seed) const {
  const auto order = random_permutation(labels.size(0), seed);
  std::vector<std::vector<int64_t>> out;
  for (int64_t user = 0; user < users; ++user) out.push_back(cut(order, user, users));
  return out;
}

std::unique_ptr<Split> make_iid_split(const NoOptions&, const SplitSite&) {
  return std::make_unique<IidSplit>();
}

}  // namespace moekit::federated
