#include "moekit/nn/routers/hash_router.h"

#include <limits>
#include <numeric>
#include <random>

#include "moekit/core/error.h"
#include "moekit/core/random.h"

namespace moekit::nn {

HashRouterImpl::HashRouterImpl(HashRouterOptions options_) : options(std::move(options_)) {
  MOEKIT_CHECK(options.vocabulary_size() >= 1 && options.num_experts() >= 1,
               "HashRouter: vocabulary_size and num_experts must be at least 1; got ",
               options.vocabulary_size(), " and ", options.num_experts());
  reset();
}

void HashRouterImpl::reset() {
  const int64_t vocabulary = options.vocabulary_size();
  const auto seed = derive_seed(static_cast<uint64_t>(options.table_seed()), "hash-table");
  std::vector<int64_t> experts(static_cast<size_t>(vocabulary));
  if (options.table() == HashTable::kEven) {
    const auto order = random_permutation(vocabulary, seed);
    for (int64_t i = 0; i < vocabulary; ++i) {
      experts[static_cast<size_t>(order[static_cast<size_t>(i)])] = i % options.num_experts();
    }
  } else {
    std::mt19937_64 generator(seed);
    for (auto& expert : experts) {
      expert = static_cast<int64_t>(
          uniform_below(generator, static_cast<uint64_t>(options.num_experts())));
    }
  }
  expert_of_token = torch::tensor(experts, torch::kLong);
}

Routing HashRouterImpl::forward(const torch::Tensor& tokens, const RouterContext& context) {
  const auto& id = context.token_id;
  MOEKIT_CHECK(id.defined() && id.dim() == 1 && id.size(0) == tokens.size(0) &&
                   id.scalar_type() == torch::kLong,
               "HashRouter: needs the id of every token");
  if (id.numel() > 0) {
    const auto least = id.min().item<int64_t>();
    const auto most = id.max().item<int64_t>();
    MOEKIT_CHECK(least >= 0 && most < options.vocabulary_size(), "HashRouter: ids must be 0..",
                 options.vocabulary_size() - 1, "; got ", least < 0 ? least : most);
  }
  const auto expert = expert_of_token.index_select(0, id);
  const auto logits =
      torch::full({id.size(0), num_experts()}, -std::numeric_limits<float>::infinity())
          .scatter(1, expert.unsqueeze(1), 0.0);
  return route(logits, 1, CombineWeights::kProbs);
}

void HashRouterImpl::take_experts(ExpertEdit& edit) {
  const bool same = edit.index.numel() == num_experts() &&
                    edit.index.equal(torch::arange(num_experts(), torch::kLong));
  MOEKIT_CHECK(same, "HashRouter: a table of tokens cannot lose or exchange experts");
}

RouterTraits HashRouterImpl::traits() const {
  RouterTraits traits;
  traits.learns = false;
  traits.top_k = 1;
  traits.combine_weights = CombineWeights::kProbs;
  return traits;
}

void check_hash_router(const HashRouterOptions& /*options*/, const LayerSite& site,
                       const std::string& where) {
  MOEKIT_CHECK(site.vocabulary_size >= 1, where,
               ".kind = \"hash\" goes by the ids of tokens; this layer's tokens have none");
}

std::shared_ptr<RouterImpl> make_hash_router(const HashRouterOptions& options,
                                             const LayerSite& site) {
  return std::make_shared<HashRouterImpl>(HashRouterOptions(options)
                                              .vocabulary_size(site.vocabulary_size)
                                              .num_experts(site.num_experts));
}

}  // namespace moekit::nn
