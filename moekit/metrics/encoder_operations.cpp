#include "moekit/metrics/encoder_operations.h"

#include <cmath>

#include "moekit/core/error.h"

namespace moekit::metrics {
namespace {

struct Operations {
  double feed_forward;  ///< with one expert a layer
  double rest;          ///< attention and head
  double weights;       ///< of one expert in all linear layers
};

Operations operations_of(const EncoderShape& s, int64_t selected) {
  MOEKIT_CHECK(s.num_layers >= 1 && s.hidden_size >= 1 && s.intermediate_size >= 1 &&
                   s.sequence_length >= 1 && s.vocabulary >= 1 && selected >= 1,
               "encoder: sizes and selected experts must be at least 1; got num_layers ",
               s.num_layers, ", hidden_size ", s.hidden_size, ", intermediate_size ",
               s.intermediate_size, ", sequence_length ", s.sequence_length, ", vocabulary ",
               s.vocabulary, " and ", selected, " expert(s)");
  const auto depth = static_cast<double>(s.num_layers);
  const auto hidden = static_cast<double>(s.hidden_size);
  const auto length = static_cast<double>(s.sequence_length);
  const double weights = 2 * depth * hidden * static_cast<double>(s.intermediate_size);
  const double attention =
      8 * depth * hidden * hidden * length + 4 * depth * hidden * length * length;
  const double head =
      2 * static_cast<double>(s.vocabulary) * hidden * length + 2 * hidden * hidden * length;
  return {2 * weights * length, attention + head, weights};
}

}  // namespace

double routed_encoder_operations(const EncoderShape& shape, int64_t selected) {
  const auto of = operations_of(shape, selected);
  return static_cast<double>(selected) * of.feed_forward + of.rest;
}

double merged_encoder_operations(const EncoderShape& shape, int64_t selected, double merge_cost) {
  MOEKIT_CHECK(std::isfinite(merge_cost) && merge_cost >= 0,
               "encoder: merge_cost must be a finite number from 0; got ", merge_cost);
  const auto of = operations_of(shape, selected);
  return of.feed_forward + of.rest + merge_cost * static_cast<double>(selected) * of.weights;
}

}  // namespace moekit::metrics
