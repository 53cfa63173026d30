#pragma once

#include <torch/nn/module.h>
#include <torch/nn/pimpl.h>

#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "moekit/kernels/ffn/weight_format.h"
#include "moekit/nn/routing.h"
#include "moekit/published/architecture.h"
#include "moekit/published/weight_reader.h"

namespace moekit::models {

/// Why a published architecture is not run, with the layer it is for; empty where it is.
std::string why_not_run(const published::Architecture& architecture);

/// What a pass through a transformer says beside its logits.
struct TransformerOutput {
  struct Mixture {
    int64_t layer;
    torch::Tensor input;   ///< [B, T, D]
    torch::Tensor output;  ///< [B, T, D], shared experts included where they are the mixture's
    nn::Routing routing;   ///< of the B * T tokens
  };
  std::vector<torch::Tensor>
      hidden;                ///< [B, T, D]: what enters the first block, then each's output
  torch::Tensor normalised;  ///< [B, T, D], what the head takes
  torch::Tensor logits;      ///< [B, T, V]
  std::vector<Mixture> mixtures;
};

/// What earlier tokens left behind for later ones: keys and values of every attention, in float32.
class TransformerCache {
 public:
  /// Room for `capacity` positions of `batch` texts of one length.
  TransformerCache(const published::Architecture& architecture, int64_t batch, int64_t capacity);
  int64_t length() const { return length_; }
  int64_t capacity() const { return keys_.front().size(1); }
  /// Puts the newest keys and values [B, T, Hk, d] of an attention behind its earlier ones.
  /// @return all of them
  std::pair<torch::Tensor, torch::Tensor> extend(size_t slot, const torch::Tensor& key,
                                                 const torch::Tensor& value);

 private:
  friend class TransformerImpl;
  std::vector<torch::Tensor> keys_, values_;  ///< [B, capacity, Hk, d] for each attention
  int64_t length_ = 0;
};

class TransformerBlockImpl;

/// A decoder-only model as a published architecture describes it, block by block: grouped or latent
/// attention, windows, sinks and gates; norms before, behind or beside; a dense network or a
/// mixture, whose routers and experts are those of nn.
class TransformerImpl : public torch::nn::Module {
 public:
  /// All weights zero. @param format  of feed-forward networks: packed, for inference alone;
  /// nothing: parameters in float32. @throws ArgumentError with why_not_run()
  explicit TransformerImpl(published::Architecture architecture,
                           std::optional<kernels::WeightFormat> format = {});
  ~TransformerImpl() override;

  /// One expert after another. @throws FormatError naming file and tensor
  void load(const published::WeightReader& weights);

  /// @param ids [B, T] int64
  /// @param mask [B, T] bool, false at padding before a text's first token, where logits are zero;
  ///             undefined: there is none
  /// @throws ArgumentError for ids beyond the vocabulary, or padding that is not before
  TransformerOutput forward(const torch::Tensor& ids, const torch::Tensor& mask = {});

  /// The same for tokens behind those that `cache` has; they are added to it. Without a graph.
  TransformerOutput forward_cached(const torch::Tensor& ids, TransformerCache& cache);

  const published::Architecture& architecture() const { return architecture_; }

 private:
  void check_ids(const torch::Tensor& ids) const;
  TransformerOutput run(const torch::Tensor& ids, const struct TransformerPass& pass);

  published::Architecture architecture_;
  torch::Tensor embedding_;  ///< [V, D]
  torch::Tensor head_;       ///< [V, D], undefined where it is the embedding
  torch::Tensor head_bias_;
  torch::Tensor norm_, norm_bias_;
  std::vector<std::shared_ptr<TransformerBlockImpl>> blocks_;
};
TORCH_MODULE(Transformer);

}  // namespace moekit::models
