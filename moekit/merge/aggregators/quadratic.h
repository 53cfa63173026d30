#pragma once

#include "moekit/core/field_rule.h"
#include "moekit/merge/aggregator_kinds.h"

namespace moekit::merge {

struct QuadraticOptions {
  int64_t steps = 2000;

  template <typename Field>
  void visit(Field&& field) {
    field("steps", steps, "most steps of projected gradient", at_least(1, 1e6));
  }
};

/// rho minimises rho' G rho over the simplex, to a duality gap of 1e-10 times the largest entry of
/// G's diagonal or as many steps as that: accelerated projected gradient from equal shares,
/// restarted where it turns back. Equal models keep equal shares.
/// Source: Beck, Teboulle 2009, A Fast Iterative Shrinkage-Thresholding Algorithm, section 4;
/// O'Donoghue, Candes 2015, arXiv:1204.3982, section 3.2 (restarts).
/// @param gram  G, K rows of K, symmetric, positive semidefinite, finite
std::vector<double> least_norm_shares(const std::vector<std::vector<double>>& gram, int64_t steps);

/// The mixture nearest to the reference: minimises ||sum_k rho_k w_k - w_s||^2 over the simplex,
/// over all tensors. Unlike the linear program of `Nearest` it mixes.
/// Source: Parsaeefard, Etesami, Leon-Garcia 2021, arXiv:2104.11700, the released code's older form
/// with trusted users, here with the server's reference and all tensors.
class Quadratic : public Aggregator {
 public:
  explicit Quadratic(QuadraticOptions options) : options_(options) {}
  Mixture mix(const WeightRows& rows) const override;

 private:
  QuadraticOptions options_;
};

std::unique_ptr<Aggregator> make_quadratic(const QuadraticOptions& options,
                                           const AggregateSite& site);

}  // namespace moekit::merge
