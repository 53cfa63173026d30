#pragma once

#include <torch/types.h>

#include <memory>
#include <string>

#include "moekit/nn/runtime.h"

namespace moekit::nn {

/// Which keys queries see: those up to a query's own position, scaled as said.
struct AttentionSettings {
  double scale = 1;
  /// [B, Tq] int32, the first position each query sees; undefined: 0. One beyond its own makes a
  /// query see none, and its output zero.
  torch::Tensor first;
  bool fused = true;  ///< use the kernel where it can; the numbers differ by the order of sums
  std::shared_ptr<Runtime> runtime = Runtime::standard();
};

/// Causal softmax attention in memory linear in the sequence, on kernels/attention/attention.h
/// where why_attention_not_fused() is empty, else out of libtorch's operations. Query head h reads
/// key head h / (H / Hk). Queries are the last Tq of the Tk positions. Source: Vaswani et al. 2017,
/// arXiv:1706.03762, eq. 1; grouped heads: Ainslie et al. 2023, arXiv:2305.13245.
/// @param queries [B, Tq, H, d] @param keys [B, Tk, Hk, d] @param values [B, Tk, Hk, dv]; the
/// kernel
///                takes float32 or bfloat16, whose products and sums are float32
/// @return [B, Tq, H, dv] of the queries' type; gradient flows to all three.
/// @throws ArgumentError when sizes do not fit.
torch::Tensor causal_attention(const torch::Tensor& queries, const torch::Tensor& keys,
                               const torch::Tensor& values, const AttentionSettings& settings);

/// The same out of libtorch's operations, with a matrix [B, H, Tq, Tk].
torch::Tensor composed_attention(const torch::Tensor& queries, const torch::Tensor& keys,
                                 const torch::Tensor& values, const AttentionSettings& settings);

/// Why the kernel does not take such tensors; empty where it does.
std::string why_attention_not_fused(const torch::Tensor& queries, const torch::Tensor& keys,
                                    const torch::Tensor& values);

}  // namespace moekit::nn
