#include "moekit/merge/aggregators/inner_product_softmax.h"

#include <torch/torch.h>

#include <cmath>

namespace moekit::merge {

Mixture InnerProductSoftmax::mix(const WeightRows& rows) const {
  std::vector<double> scores;
  for (int64_t k = 0; k < rows.size(); ++k) {
    double sum = 0;
    for (size_t t = 0; t + 1 < rows.offsets.size(); ++t) {
      const auto own = rows.models[k].slice(0, rows.offsets[t], rows.offsets[t + 1]);
      const double norm = std::sqrt(own.dot(own).item<double>());
      const auto other = rows.reference.slice(0, rows.offsets[t], rows.offsets[t + 1]);
      if (norm > 0) sum += own.dot(other).item<double>() / norm;
    }
    scores.push_back(sum / static_cast<double>(rows.offsets.size() - 1));
  }
  return {softmax_of(scores), 0, {}};
}

std::unique_ptr<Aggregator> make_inner_product_softmax(const NoOptions&, const AggregateSite&) {
  return std::make_unique<InnerProductSoftmax>();
}

}  // namespace moekit::merge
