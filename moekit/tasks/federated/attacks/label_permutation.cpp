#include "moekit/tasks/federated/attacks/label_permutation.h"

#include <torch/torch.h>

#include <cmath>

#include "moekit/core/random.h"

namespace moekit::federated {

void LabelPermutation::poison(data::ImageSet& set, int64_t num_classes, uint64_t seed) const {
  const auto count =
      static_cast<int64_t>(std::floor(classes_ * static_cast<double>(num_classes) + 1e-9));
  MOEKIT_CHECK(count >= 2, "attack.classes = ", classes_, " of ", num_classes, " classes are ",
               count, "; two at least can be exchanged");
  const auto order = random_permutation(num_classes, seed);
  auto other = torch::arange(num_classes, torch::kLong);
  // A ring through the first ones of a random order: nobody keeps its label.
  for (int64_t i = 0; i < count; ++i) {
    other[order[static_cast<size_t>(i)]] = order[static_cast<size_t>((i + 1) % count)];
  }
  set.labels.copy_(other.index_select(0, set.labels));
}

void check_label_permutation(const LabelPermutationOptions& options, const AttackSite& site,
                             const std::string& where) {
  check_attackers(options, site, where);
}

std::unique_ptr<Attack> make_label_permutation(const LabelPermutationOptions& options,
                                               const AttackSite&) {
  return std::make_unique<LabelPermutation>(options);
}

}  // namespace moekit::federated
