#pragma once

#include "moekit/core/field_rule.h"
#include "moekit/merge/aggregator_kinds.h"

namespace moekit::merge {

struct DistanceSoftmaxOptions {
  double sharpness = 5;

  template <typename Field>
  void visit(Field&& field) {
    field("sharpness", sharpness, "shares go by exp(-sharpness distance / median)", above(0, 1e6));
  }
};

/// rho_k goes by exp(-sharpness d_k / median d), d the squared distances to the reference over all
/// tensors. Where half of the models are the reference itself, those share. Ours: the softmax of
/// arXiv:2104.11700 with a score that neither saturates nor forgives a scaled model.
class DistanceSoftmax : public Aggregator {
 public:
  explicit DistanceSoftmax(DistanceSoftmaxOptions options) : options_(options) {}
  Mixture mix(const WeightRows& rows) const override;

 private:
  DistanceSoftmaxOptions options_;
};

std::unique_ptr<Aggregator> make_distance_softmax(const DistanceSoftmaxOptions& options,
                                                  const AggregateSite& site);

}  // namespace moekit::merge
