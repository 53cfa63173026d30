#include "moekit/nn/loss_kinds.h"

#include "moekit/nn/losses/balance_loss.h"
#include "moekit/nn/losses/entropy_loss.h"
#include "moekit/nn/losses/importance_loss.h"
#include "moekit/nn/losses/load_loss.h"
#include "moekit/nn/losses/router_z_loss.h"
#include "moekit/nn/losses/sample_similarity_loss.h"

namespace moekit::nn {

const std::vector<LossKinds::Row>& LossKinds::rows() {
  static const std::vector<Row> kRows = {
      kind<&make_importance_loss, &check_importance_loss>("importance", "equal mass per expert"),
      kind<&make_load_loss, &check_load_loss>("load", "equal number of tokens per expert"),
      kind<&make_balance_loss, &check_balance_loss>("balance", "mass away from loaded experts"),
      kind<&make_router_z_loss, &check_router_z_loss>("router_z", "small logits"),
      kind<&make_entropy_loss, &check_entropy_loss>("entropy", "sure decisions"),
      kind<&make_similarity_loss, &check_similarity_loss>("similarity",
                                                          "similar samples share an expert"),
  };
  return kRows;
}

}  // namespace moekit::nn
