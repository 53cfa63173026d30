#pragma once

#include <torch/nn/module.h>
#include <torch/nn/pimpl.h>

#include <map>
#include <string>
#include <utility>

#include "moekit/models/transformer.h"
#include "moekit/published/architecture.h"
#include "moekit/published/weight_reader.h"

/// What the blocks of models/transformer.h are made of.
namespace moekit::models {

/// What all blocks are told of a pass.
struct TransformerPass {
  torch::Tensor position;             ///< [B, T] int64, of padding 0
  torch::Tensor first;                ///< [B] int64, each text's first token
  torch::Tensor mask;                 ///< [B, T] bool; undefined without padding
  TransformerCache* cache = nullptr;  ///< what came before; null: nothing
  int64_t begin() const { return cache == nullptr ? 0 : cache->length(); }
};

/// x W' + b. A single row goes through a product of matrix and vector: that of matrices copies all
/// weights into another form first.
torch::Tensor product(const torch::Tensor& x, const torch::Tensor& weight,
                      const torch::Tensor& bias = {});

/// By the architecture's kind of norm. @param bias  may be undefined
torch::Tensor normalise(const published::Architecture& of, const torch::Tensor& x,
                        const torch::Tensor& weight, const torch::Tensor& bias);

/// One attention, grouped or over latent vectors, with what a published architecture adds to it.
class TransformerAttentionImpl : public torch::nn::Module {
 public:
  /// @param slot  of the cache. Keeps `of`. @throws FormatError for positions that are not known
  TransformerAttentionImpl(const published::Architecture& of, published::AttentionPart part,
                           size_t slot);
  /// @param prefix  of the layer
  void load(const published::WeightReader& weights, const std::string& prefix);
  /// @param x [B, T, D], normalised
  torch::Tensor forward(const torch::Tensor& x, const TransformerPass& pass) const;

 private:
  struct Heads {
    torch::Tensor query, key, value;  ///< [B, T, H or Hk, d]
    torch::Tensor gate;               ///< [B, T, H * d], of those that come with the queries
  };
  /// Of a pass's positions, [B, T, 1, channels / 2]; undefined without.
  using Angles = std::pair<torch::Tensor, torch::Tensor>;

  torch::Tensor map(const torch::Tensor& x, const std::string& role) const;
  Angles angles(const TransformerPass& pass) const;
  Heads make_grouped(const torch::Tensor& x, const Angles& angles) const;
  Heads make_latent(const torch::Tensor& x, const Angles& angles) const;
  void warm(torch::Tensor& query, const TransformerPass& pass) const;
  torch::Tensor first_seen(const TransformerPass& pass, int64_t tokens) const;

  const published::Architecture& of_;
  published::AttentionPart part_;
  size_t slot_;
  std::map<std::string, torch::Tensor> weights_;  ///< by role
  torch::Tensor frequency_;                       ///< [channels / 2]; undefined without positions
  double rotary_scale_ = 1;
};
TORCH_MODULE(TransformerAttention);

}  // namespace moekit::models
