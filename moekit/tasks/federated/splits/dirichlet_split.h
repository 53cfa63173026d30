#pragma once

#include "moekit/core/field_rule.h"
#include "moekit/tasks/federated/split_kinds.h"

namespace moekit::federated {

struct DirichletSplitOptions {
  double alpha = 0.5;

  template <typename Field>
  void visit(Field&& field) {
    field("alpha", alpha, "of the Dirichlet: small ones give a user few classes", at_least(1e-9, 1e6));
  }
};

/// Every class is cut by shares of the users drawn from Dir(alpha), so that users differ in size
/// too. Source: Yurochkin et al. 2019, arXiv:1905.12022, section 4.
class DirichletSplit : public Split {
 public:
  explicit DirichletSplit(DirichletSplitOptions options) : options_(options) {}
  std::vector<std::vector<int64_t>> deal(const torch::Tensor& labels, int64_t num_classes,
                                         int64_t users, uint64_t seed) const override;

 private:
  DirichletSplitOptions options_;
};

std::unique_ptr<Split> make_dirichlet_split(const DirichletSplitOptions& options,
                                            const SplitSite& site);

}  // namespace moekit::federated
