#include "moekit/tasks/federated/splits/dirichlet_split.h"

#include <torch/torch.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "moekit/core/random.h"
#include "moekit/tensor/generator.h"

namespace moekit::federated {
namespace {

/// Shares [num_classes, users] of a symmetric Dirichlet distribution. Gamma variables of a small
/// alpha are below what a double holds, and shares of such zeros would come out even: in
/// logarithms, gamma(alpha) is gamma(alpha + 1) times a uniform variable to the power of 1 / alpha.
/// Source: Marsaglia, Tsang 2000, ACM Transactions on Mathematical Software 26 (3), section 6.
torch::Tensor draw_shares(double alpha, int64_t num_classes, int64_t users, uint64_t seed) {
  const auto options = torch::TensorOptions().dtype(torch::kFloat64);
  const auto gamma = at::_standard_gamma(torch::full({num_classes, users}, alpha + 1, options),
                                         tensor::make_generator(derive_seed(seed, "gamma")));
  const auto uniform = torch::empty({num_classes, users}, options)
                           .uniform_(0, 1, tensor::make_generator(derive_seed(seed, "uniform")))
                           .clamp_min(std::numeric_limits<double>::min());
  return torch::softmax(gamma.log() + uniform.log() / alpha, 1);
}

}  // namespace

std::vector<std::vector<int64_t>> DirichletSplit::deal(const torch::Tensor& labels,
                                                       int64_t num_classes, int64_t users,
                                                       uint64_t seed) const {
  const auto shares = draw_shares(options_.alpha, num_classes, users, derive_seed(seed, "shares"));
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
