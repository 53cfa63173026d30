#include "moekit/nn/expert_kinds.h"

#include "moekit/nn/experts/conv_experts.h"
#include "moekit/nn/experts/linear_experts.h"
#include "moekit/nn/experts/matrix_product_experts.h"
#include "moekit/nn/experts/mlp_experts.h"
#include "moekit/nn/experts/patch_experts.h"
#include "moekit/nn/experts/zero_computation_experts.h"

namespace moekit::nn {

const std::vector<ExpertKinds::Row>& ExpertKinds::rows() {
  static const std::vector<Row> kRows = {
      kind<&make_conv_experts, &check_conv_experts>("conv", "small convolutional networks"),
      kind<&make_mlp_experts>("mlp", "one hidden layer, plain or gated"),
      kind<&make_zero_computation_experts, &check_zero_computation_experts>(
          "zero_computation", "as mlp, with constant, copy and zero experts behind them"),
      kind<&make_matrix_product_experts, &check_matrix_product_experts>(
          "matrix_product", "as mlp, of matrix products whose central tensors all share (MPOE)"),
      kind<&make_linear_experts>("linear", "one linear map"),
      kind<&make_patch_experts, &check_patch_experts>("patch", "filters over the patches"),
  };
  return kRows;
}

}  // namespace moekit::nn
