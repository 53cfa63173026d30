#pragma once

#include "moekit/nn/router.h"

namespace moekit::nn {

/// The tokens of a layer as rows: [B, T, ...] flattened, masked tokens left out. The layer works on
/// the rows alone; restore() brings its results back.
struct TokenRows {
  torch::Tensor tokens;   ///< [N, ...]
  RouterContext context;  ///< of these rows, without a mask
  torch::Tensor rows;     ///< [N] int64, which of the flattened tokens they are; undefined: all
  int64_t total = 0;      ///< tokens, masked ones included
  std::vector<int64_t> batch;  ///< {B, T}, or empty

  /// @param token_dim  dimensions of one token; 0: tokens are taken as they come
  /// @throws ArgumentError unless the context's mask has one bool a token.
  TokenRows(const torch::Tensor& tokens, const RouterContext& context, int64_t token_dim);

  /// Values of the rows for all tokens, zeros for masked ones, in the shape the tokens came in.
  /// @param values [N, ...] with tokens in dimension `dim`
  torch::Tensor restore(const torch::Tensor& values, int64_t dim = 0) const;
};

}  // namespace moekit::nn
