#pragma once

#include <torch/nn/cloneable.h>
#include <torch/nn/pimpl.h>

#include <memory>

#include "moekit/nn/experts.h"

namespace moekit::nn {

struct SoftMoEOptions {
  explicit SoftMoEOptions(int64_t hidden_size) : hidden_size_(hidden_size) {}
  TORCH_ARG(int64_t, hidden_size);           ///< D
  TORCH_ARG(int64_t, slots_per_expert) = 1;  ///< S
};

/// What a soft mixture did with a batch of sequences.
struct SoftMoEOutput {
  torch::Tensor values;    ///< [B, T, O]
  torch::Tensor dispatch;  ///< [B, T, E * S]: share of each token in a slot; columns sum to 1
  torch::Tensor combine;   ///< [B, T, E * S]: share of each slot in a token; rows sum to 1
};

/// Experts that take averages of a sequence's tokens, their slots, instead of tokens: logits are
/// products of the normalised tokens with the normalised slot parameters, times a learned scale; a
/// slot is the average of the tokens by the softmax over tokens, and a token the average of what
/// the experts make of all slots, by the softmax over slots. All experts are equally full, nothing
/// is dropped, gradient flows everywhere, no loss is needed.
///
/// A token's result depends on all others of its sequence: not for models of the next token.
/// Source: Puigcerver et al. 2023, arXiv:2308.00951, section 2.1, alg. 1 and 2.
class SoftMoEImpl : public torch::nn::Cloneable<SoftMoEImpl> {
 public:
  /// @throws ArgumentError when experts are missing, do not take vectors, or for sizes below 1.
  SoftMoEImpl(SoftMoEOptions options, std::shared_ptr<ExpertsImpl> experts);
  void reset() override;
  void reset_parameters(const at::Generator& generator);
  /// For `torch::nn::Sequential`: the values alone.
  torch::Tensor forward(const torch::Tensor& tokens) { return forward_with_shares(tokens).values; }
  /// @param tokens [B, T, D] @param mask [B, T] bool, tokens that are there: the others are in no
  /// slot and give zeros; undefined: all are
  SoftMoEOutput forward_with_shares(const torch::Tensor& tokens, const torch::Tensor& mask = {});

  SoftMoEOptions options;
  std::shared_ptr<ExpertsImpl> experts;
  torch::Tensor slots;  ///< Phi [D, E * S], the slots of an expert side by side
  torch::Tensor scale;  ///< [1], 1 at first
};
TORCH_MODULE(SoftMoE);

}  // namespace moekit::nn
