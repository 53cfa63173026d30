#pragma once

#include "moekit/merge/aggregator_kinds.h"

namespace moekit::merge {

/// rho = softmax(s), s_k = mean over the tensors of <w_k, w_s> / ||w_k||; a tensor of zeros counts
/// 0. The score grows with the reference's norm, so that shares turn sharp as weights grow; a model
/// that is only scaled up keeps its share.
/// Source: Parsaeefard, Etesami, Leon-Garcia 2021, arXiv:2104.11700 (softmax), as released.
class InnerProductSoftmax : public Aggregator {
 public:
  Mixture mix(const WeightRows& rows) const override;
};

std::unique_ptr<Aggregator> make_inner_product_softmax(const NoOptions& options,
                                                       const AggregateSite& site);

}  // namespace moekit::merge
