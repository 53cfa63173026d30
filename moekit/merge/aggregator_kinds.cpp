#include "moekit/merge/aggregator_kinds.h"

#include "moekit/merge/aggregators/coordinate_median.h"
#include "moekit/merge/aggregators/distance_softmax.h"
#include "moekit/merge/aggregators/inner_product_softmax.h"
#include "moekit/merge/aggregators/krum.h"
#include "moekit/merge/aggregators/nearest.h"
#include "moekit/merge/aggregators/plain_average.h"
#include "moekit/merge/aggregators/quadratic.h"
#include "moekit/merge/aggregators/server_only.h"

namespace moekit::merge {

const std::vector<AggregatorKinds::Row>& AggregatorKinds::rows() {
  static const std::vector<Row> kRows = {
      kind<&make_plain_average>("average", "equal shares"),
      kind<&make_nearest>("nearest", "the one model nearest to the reference"),
      kind<&make_quadratic>("quadratic", "the mixture nearest to the reference"),
      kind<&make_inner_product_softmax>("softmax", "softmax of inner products with the reference"),
      kind<&make_distance_softmax>("distance_softmax", "softmax of distances to the reference"),
      kind<&make_coordinate_median>("median", "the median of every number; no reference"),
      kind<&make_krum, &check_krum>("krum", "the model with the nearest neighbours; no reference"),
      kind<&make_server_only>("server_only", "the reference alone: what users are compared with"),
  };
  return kRows;
}

}  // namespace moekit::merge
