#include "moekit/nn/router_kinds.h"

#include "moekit/nn/routers/attentive_router.h"
#include "moekit/nn/routers/linear_router.h"
#include "moekit/nn/routers/oracle_router.h"
#include "moekit/nn/routers/scored_router.h"

namespace moekit::nn {

const std::vector<RouterKinds::Row>& RouterKinds::rows() {
  static const std::vector<Row> kRows = {
      kind<&make_linear_router, &check_linear_router>("linear", "softmax of a linear map"),
      kind<&make_attentive_router, &check_attentive_router>("attentive", "keys from the experts"),
      kind<&make_scored_router, &check_scored_router>(
          "scored", "sigmoid or other scores, groups of experts, correction by the load"),
      kind<&make_oracle_router, &check_oracle_router>("oracle", "is told the label"),
  };
  return kRows;
}

}  // namespace moekit::nn
