#pragma once

#include <torch/nn/pimpl.h>

#include "moekit/core/field_rule.h"
#include "moekit/nn/cloneable.h"
#include "moekit/nn/layer_site.h"
#include "moekit/nn/routers/projection_router.h"

namespace moekit::nn {

/// Among which tokens an expert chooses.
enum class ChoiceGroup {
  kSequence,  ///< those of one sequence
  kBatch,     ///< all
};

struct ExpertChoiceRouterOptions {
  ExpertChoiceRouterOptions() = default;
  ExpertChoiceRouterOptions(int64_t hidden_size, int64_t num_experts)
      : hidden_size_(hidden_size), num_experts_(num_experts) {}
  TORCH_ARG(int64_t, hidden_size) = 0;  ///< D
  TORCH_ARG(int64_t, num_experts) = 0;  ///< E
  TORCH_ARG(double, experts_per_token) = 2;
  TORCH_ARG(ChoiceGroup, group) = ChoiceGroup::kSequence;

 public:
  template <typename Field>
  void visit(Field&& field) {
    field("experts_per_token", experts_per_token_, "on average, at most all", above(0));
    field("group", group_, "tokens among which an expert chooses");
  }
};

/// Experts choose tokens: of T tokens, each takes the C = ceil(T c / E), c experts a token on
/// average, that give it the largest share of their softmax over experts; that share is the weight.
/// All experts are equally full, and a token has none to E of them. Of equal shares the first token
/// is taken.
///
/// What a token gets depends on those behind it in its group: not for models that foretell the next
/// token, which would be told of it. Source: Zhou et al. 2022, arXiv:2202.09368, section 3.2.
class ExpertChoiceRouterImpl : public Cloneable<ExpertChoiceRouterImpl, ProjectionRouterImpl> {
 public:
  /// @throws ArgumentError unless 0 < experts_per_token <= E
  explicit ExpertChoiceRouterImpl(ExpertChoiceRouterOptions options);
  void reset() override;
  Routing forward(const torch::Tensor& tokens, const RouterContext& context) override;
  void take_experts(ExpertEdit& edit) override;
  RouterTraits traits() const override;

  ExpertChoiceRouterOptions options;
};
TORCH_MODULE(ExpertChoiceRouter);

void check_expert_choice_router(const ExpertChoiceRouterOptions& options, const LayerSite& site,
                                const std::string& where);
std::shared_ptr<RouterImpl> make_expert_choice_router(const ExpertChoiceRouterOptions& options,
                                                      const LayerSite& site);

}  // namespace moekit::nn

template <>
struct moekit::EnumNames<moekit::nn::ChoiceGroup> {
  static constexpr std::array<std::pair<nn::ChoiceGroup, std::string_view>, 2> kTable{{
      {nn::ChoiceGroup::kSequence, "sequence"},
      {nn::ChoiceGroup::kBatch, "batch"},
  }};
};
