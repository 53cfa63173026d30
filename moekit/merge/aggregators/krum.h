#pragma once

#include "moekit/core/field_rule.h"
#include "moekit/merge/aggregator_kinds.h"

namespace moekit::merge {

struct KrumOptions {
  int64_t byzantine = 0;

  template <typename Field>
  void visit(Field&& field) {
    field("byzantine", byzantine, "f, 2 f + 2 < K; 0: the most of a round, (K - 3) / 2",
          at_least(0));
  }
};

/// The model whose K - f - 2 nearest others are nearest to it, by the sum of squared distances;
/// models of equal scores share. Needs no reference; its proof wants 2 f + 2 < K. Where models were
/// refused, or K < 3, at least one other counts.
/// Source: Blanchard, El Mhamdi, Guerraoui, Stainer 2017, Machine Learning with Adversaries:
/// Byzantine Tolerant Gradient Descent, arXiv:1703.02757, section 4, of weights in place of
/// gradients.
class Krum : public Aggregator {
 public:
  explicit Krum(KrumOptions options) : options_(options) {}
  bool needs_reference() const override { return false; }
  Mixture mix(const WeightRows& rows) const override;

 private:
  KrumOptions options_;
};

/// @throws ArgumentError unless 2 f + 2 < K.
void check_krum(const KrumOptions& options, const AggregateSite& site, const std::string& where);
std::unique_ptr<Aggregator> make_krum(const KrumOptions& options, const AggregateSite& site);

}  // namespace moekit::merge
