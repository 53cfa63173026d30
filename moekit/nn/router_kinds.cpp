#include "moekit/nn/router_kinds.h"

#include "moekit/nn/routers/attentive_router.h"
#include "moekit/nn/routers/base_router.h"
#include "moekit/nn/routers/expert_choice_router.h"
#include "moekit/nn/routers/gshard_router.h"
#include "moekit/nn/routers/hash_router.h"
#include "moekit/nn/routers/linear_router.h"
#include "moekit/nn/routers/oracle_router.h"
#include "moekit/nn/routers/relu_router.h"
#include "moekit/nn/routers/scored_router.h"

namespace moekit::nn {

const std::vector<RouterKinds::Row>& RouterKinds::rows() {
  static const std::vector<Row> kRows = {
      kind<&make_linear_router, &check_linear_router>("linear", "softmax of a linear map"),
      kind<&make_attentive_router, &check_attentive_router>("attentive", "keys from the experts"),
      kind<&make_scored_router, &check_scored_router>(
          "scored", "sigmoid or other scores, groups of experts, correction by the load"),
      kind<&make_base_router>("base", "as many tokens for every expert, dealt out by an auction"),
      kind<&make_gshard_router, &check_gshard_router>("gshard",
                                                      "two experts, the second by chance"),
      kind<&make_expert_choice_router, &check_expert_choice_router>(
          "expert_choice", "experts choose tokens; not for models of the next token"),
      kind<&make_relu_router, &check_relu_router>(
          "relu", "no choice: every expert whose logit is above 0, held to few by a penalty"),
      kind<&make_hash_router, &check_hash_router>("hash",
                                                  "a drawn expert for each token of a vocabulary"),
      kind<&make_oracle_router, &check_oracle_router>("oracle", "is told the label"),
  };
  return kRows;
}

}  // namespace moekit::nn
