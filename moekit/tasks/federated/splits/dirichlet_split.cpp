#include "moekit/tasks/federated/splits/dirichlet_split.h"

#include <torch/torch.h>

#include <algorithm>
#include <cmath>

#include "moekit/core/random.h"
#include "moekit/tensor/generator.h"

namespace moekit::federated {

std::vector<std::vector<int64_t>> DirichletSplit::deal(const torch::Tensor& labels,
                                                       int64_t num_classes, int64_t users,
                                                       uint64_t seed) const {
  const auto shares =
      at::_sample_dirichlet(torch::full({num_classes, users}, options_.alpha, torch::kFloat64),
                            tensor::make_generator(derive_seed(seed, "shares")));
  std::vector<std::vector<int64_t>> out(static_cast<size_t>(users));
  for (int64_t c = 0; c < num_classes; ++c) {
    const auto members = labels.eq(c).nonzero().squeeze(1);
    const auto order =
        random_permutation(members.size(0), derive_seed(seed, "class", static_cast<uint64_t>(c)));
    double upto = 0;
    int64_t begin = 0;
    for (int64_t user = 0; user < users; ++user) {
      upto += shares[c][user].item<double>();
      // The last user takes what rounding has left.
      const int64_t end =
          user + 1 == users
              ? members.size(0)
              : std::clamp<int64_t>(std::llround(upto * static_cast<double>(members.size(0))),
                                    begin, members.size(0));
      for (; begin < end; ++begin) {
        out[static_cast<size_t>(user)].push_back(
            members[order[static_cast<size_t>(begin)]].item<int64_t>());
      }
    }
  }
  return out;
}

std::unique_ptr<Split> make_dirichlet_split(const DirichletSplitOptions& options,
                                            const SplitSite&) {
  return std::make_unique<DirichletSplit>(options);
}

}  // namespace moekit::federated
