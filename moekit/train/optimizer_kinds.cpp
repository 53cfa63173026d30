#include "moekit/train/optimizer_kinds.h"

#include "moekit/train/optimizers/adam.h"
#include "moekit/train/optimizers/normalized_gd.h"
#include "moekit/train/optimizers/sgd.h"

namespace moekit::train {

const std::vector<OptimizerKinds::Row>& OptimizerKinds::rows() {
  static const std::vector<Row> kRows = {
      kind<&make_adam, &check_adam>("adam", "Adam, weight decay in the gradient"),
      kind<&make_adamw, &check_adamw>("adamw", "Adam, weight decay beside the gradient"),
      kind<&make_sgd, &check_sgd>("sgd", "gradient descent with momentum"),
      kind<&make_normalized_gd, &check_normalized_gd>("normalized_gd",
                                                      "experts move by the same length"),
  };
  return kRows;
}

}  // namespace moekit::train
