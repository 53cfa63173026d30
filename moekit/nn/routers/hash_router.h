#pragma once

#include <torch/nn/pimpl.h>

#include "moekit/core/field_rule.h"
#include "moekit/nn/cloneable.h"
#include "moekit/nn/layer_site.h"
#include "moekit/nn/router.h"

namespace moekit::nn {

/// Which experts get how many of the vocabulary's tokens.
enum class HashTable {
  kRandom,  ///< each token's expert is drawn
  kEven,    ///< as many tokens for each, within one
};

struct HashRouterOptions {
  HashRouterOptions() = default;
  HashRouterOptions(int64_t vocabulary_size, int64_t num_experts)
      : vocabulary_size_(vocabulary_size), num_experts_(num_experts) {}
  TORCH_ARG(int64_t, vocabulary_size) = 0;  ///< V
  TORCH_ARG(int64_t, num_experts) = 0;      ///< E
  TORCH_ARG(HashTable, table) = HashTable::kRandom;
  TORCH_ARG(int64_t, table_seed) = 42;  // that of the released code

 public:
  template <typename Field>
  void visit(Field&& field) {
    field("table", table_, "how tokens are dealt out");
    field("table_seed", table_seed_, "draws the table", at_least(0, kAnySeed));
  }
};

/// Every token of the vocabulary has an expert, wherever it stands: a drawn table in place of a
/// router. No weights, no gradient, nothing learns; its logits are 0 and -infinity, weights are 1.
/// Source: Roller et al. 2021, arXiv:2106.04426, section 3 (random hash).
class HashRouterImpl : public Cloneable<HashRouterImpl, RouterImpl> {
 public:
  /// @throws ArgumentError unless V and E are at least 1
  explicit HashRouterImpl(HashRouterOptions options);
  void reset() override;
  void reset_parameters(const at::Generator&) override {}
  /// @throws ArgumentError unless context.token_id is [N] int64 of ids of the vocabulary
  Routing forward(const torch::Tensor& tokens, const RouterContext& context) override;
  /// @throws ArgumentError: which expert gets the tokens of one that is left out?
  void take_experts(ExpertEdit& edit) override;
  int64_t num_experts() const override { return options.num_experts(); }
  RouterTraits traits() const override;

  HashRouterOptions options;
  torch::Tensor expert_of_token;  ///< [V] int64
};
TORCH_MODULE(HashRouter);

void check_hash_router(const HashRouterOptions& options, const LayerSite& site,
                       const std::string& where);
std::shared_ptr<RouterImpl> make_hash_router(const HashRouterOptions& options,
                                             const LayerSite& site);

}  // namespace moekit::nn

template <>
struct moekit::EnumNames<moekit::nn::HashTable> {
  static constexpr std::array<std::pair<nn::HashTable, std::string_view>, 2> kTable{{
      {nn::HashTable::kRandom, "random"},
      {nn::HashTable::kEven, "even"},
  }};
};
