#pragma once

#include <torch/nn/pimpl.h>

#include "moekit/core/field_rule.h"
#include "moekit/nn/cloneable.h"
#include "moekit/nn/layer_site.h"
#include "moekit/nn/routers/projection_router.h"

namespace moekit::nn {

/// How logits become scores s, each expert's by itself but for the softmax.
enum class RouterScore { kSoftmax, kSigmoid, kSqrtSoftplus };
/// What a group of experts is worth.
enum class GroupScore {
  kLargest,  ///< its best expert's score (DeepSeek-V2)
  kTopTwo,   ///< the sum of its two best (DeepSeek-V3)
};

/// Options of `ScoredRouter`. Example: `ScoredRouterOptions(512, 64).top_k(6).bias_rate(1e-3)`.
struct ScoredRouterOptions {
  ScoredRouterOptions() = default;
  ScoredRouterOptions(int64_t hidden_size, int64_t num_experts)
      : hidden_size_(hidden_size), num_experts_(num_experts) {}
  TORCH_ARG(int64_t, hidden_size) = 0;  ///< D
  TORCH_ARG(int64_t, num_experts) = 0;  ///< E
  TORCH_ARG(int64_t, top_k) = 2;        ///< K
  TORCH_ARG(RouterScore, score) = RouterScore::kSigmoid;
  TORCH_ARG(bool, normalize) = true;      ///< weights of a token sum to weight_scale
  TORCH_ARG(double, weight_scale) = 1.0;  ///< of all weights
  TORCH_ARG(double, bias_rate) = 0.0;     ///< u of the correction b; 0: there is none
  TORCH_ARG(int64_t, num_groups) = 1;     ///< G, divides E
  TORCH_ARG(int64_t, kept_groups) = 1;    ///< of which a token's experts come
  TORCH_ARG(GroupScore, group_score) = GroupScore::kTopTwo;

 public:
  template <typename Field>
  void visit(Field&& field) {
    field("top_k", top_k_, "experts a token is sent to", at_least(1));
    field("score", score_, "of an expert's logit");
    field("normalize", normalize_, "a token's scores are divided by the sum of the chosen ones");
    field("weight_scale", weight_scale_, "times all weights", above(0));
    field("bias_rate", bias_rate_,
          "step of each expert's correction of its score, by the load; 0: none", at_least(0));
    field("num_groups", num_groups_, "groups of experts; a token chooses groups first",
          at_least(1));
    field("kept_groups", kept_groups_, "groups that a token's experts may come from", at_least(1));
    field("group_score", group_score_, "a group's worth: its largest score, or its two largest");
  }
};

/// s = score(tokens W'), and the K experts of the largest s + b, out of the best groups. Weights
/// are s, without b: over the sum of the chosen ones (plus 1e-20) if normalised, times a scale. The
/// correction b is no parameter: after each training step b += u sign(mean load - load), of the
/// loads of all of the step's parts, which keeps them even without a loss.
///
/// `Routing::probs` are the scores over their sum, which losses on balance take.
/// Sources: sigmoid, groups, scale: DeepSeek-AI 2024, arXiv:2412.19437, eq. 12-16; groups by their
/// largest score: arXiv:2405.04434, section 2.2.2; the correction: Wang et al. 2024,
/// arXiv:2408.15664, alg. 1.
class ScoredRouterImpl : public Cloneable<ScoredRouterImpl, ProjectionRouterImpl> {
 public:
  /// @throws ArgumentError for options that are impossible or have no effect.
  explicit ScoredRouterImpl(ScoredRouterOptions options);
  void reset() override;
  void reset_parameters(const at::Generator& generator) override;
  Routing forward(const torch::Tensor& tokens, const RouterContext& context) override;
  void end_step(const StepLoad& model) override;
  void take_experts(ExpertEdit& edit) override;
  RouterTraits traits() const override;

  ScoredRouterOptions options;
  torch::Tensor correction;  ///< b [E], a buffer; undefined without

 private:
  torch::Tensor load_;  ///< [E] int64, assignments of the running step
};
TORCH_MODULE(ScoredRouter);

void check_scored_router(const ScoredRouterOptions& options, const LayerSite& site,
                         const std::string& where);
std::shared_ptr<RouterImpl> make_scored_router(const ScoredRouterOptions& options,
                                               const LayerSite& site);

}  // namespace moekit::nn

template <>
struct moekit::EnumNames<moekit::nn::RouterScore> {
  static constexpr std::array<std::pair<nn::RouterScore, std::string_view>, 3> kTable{{
      {nn::RouterScore::kSoftmax, "softmax"},
      {nn::RouterScore::kSigmoid, "sigmoid"},
      {nn::RouterScore::kSqrtSoftplus, "sqrt_softplus"},
  }};
};
template <>
struct moekit::EnumNames<moekit::nn::GroupScore> {
  static constexpr std::array<std::pair<nn::GroupScore, std::string_view>, 2> kTable{{
      {nn::GroupScore::kLargest, "largest"},
      {nn::GroupScore::kTopTwo, "top_two"},
  }};
};
