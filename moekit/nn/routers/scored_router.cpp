#include "moekit/nn/routers/scored_router.h"

#include <limits>

#include "moekit/core/config.h"
#include "moekit/core/error.h"
#include "moekit/nn/layer_site.h"
#include "moekit/nn/top_k.h"

namespace moekit::nn {
namespace {

constexpr double kNoDivisionByZero = 1e-20;  // of the released code

/// @param where  "ScoredRouter: ", or the path of a recipe's section with a dot
void check_options(const ScoredRouterOptions& o, const std::string& where) {
  MOEKIT_CHECK(o.top_k() >= 1 && o.top_k() <= o.num_experts(), where, "top_k must be 1..",
               o.num_experts(), "; got ", o.top_k());
  MOEKIT_CHECK(o.num_experts() % o.num_groups() == 0, where, "num_groups must divide the ",
               o.num_experts(), " experts; got ", o.num_groups());
  MOEKIT_CHECK(o.kept_groups() <= o.num_groups(), where, "kept_groups must be 1..", o.num_groups(),
               "; got ", o.kept_groups());
  const int64_t of_group = o.num_experts() / o.num_groups();
  MOEKIT_CHECK(o.top_k() <= o.kept_groups() * of_group, where, "kept_groups: ", o.kept_groups(),
               " groups of ", of_group, " experts hold no top_k = ", o.top_k());
  const bool grouped = o.num_groups() > 1;
  MOEKIT_CHECK(!grouped || o.group_score() == GroupScore::kLargest || of_group >= 2, where,
               "group_score = \"top_two\" wants groups of two experts at least; num_groups = ",
               o.num_groups(), " gives ", of_group);
  MOEKIT_CHECK(grouped || o.group_score() == ScoredRouterOptions{}.group_score(), where,
               "group_score has no effect with num_groups = 1");
}

torch::Tensor scores_of(RouterScore score, const torch::Tensor& logits) {
  switch (score) {
    case RouterScore::kSoftmax:
      return torch::softmax(logits, 1);
    case RouterScore::kSigmoid:
      return torch::sigmoid(logits);
    case RouterScore::kSqrtSoftplus:
      break;
  }
  return torch::softplus(logits).sqrt();
}

/// Scores [N, E] with minus infinity for experts of groups that a token does not keep. (Zero would
/// let an expert of a group that is out win over kept ones whose corrected scores are negative.)
torch::Tensor within_groups(const torch::Tensor& scores, const ScoredRouterOptions& o) {
  if (o.kept_groups() == o.num_groups()) return scores;
  const auto groups = scores.view({scores.size(0), o.num_groups(), -1});
  const int64_t best = o.group_score() == GroupScore::kTopTwo ? 2 : 1;
  const auto worth = std::get<0>(groups.topk(best, 2)).sum(2);
  const auto kept =
      torch::zeros_like(worth, torch::kBool).scatter_(1, top_k_index(worth, o.kept_groups()), true);
  return groups
      .masked_fill(kept.logical_not().unsqueeze(2), -std::numeric_limits<double>::infinity())
      .view_as(scores);
}

}  // namespace

ScoredRouterImpl::ScoredRouterImpl(ScoredRouterOptions options_) : options(std::move(options_)) {
  check_values(options, "ScoredRouter");
  check_options(options, "ScoredRouter: ");
  reset();
}

void ScoredRouterImpl::reset() {
  register_weight(options.num_experts(), options.hidden_size());
  if (options.bias_rate() > 0) {
    // Always float32: steps of a thousandth are lost in bfloat16.
    correction = register_buffer("correction", torch::zeros({options.num_experts()}));
    load_ = register_buffer("load", torch::zeros({options.num_experts()}, torch::kLong));
  }
  reset_parameters({});
}

void ScoredRouterImpl::reset_parameters(const at::Generator& generator) {
  ProjectionRouterImpl::reset_parameters(generator);
  if (!correction.defined()) return;
  correction.zero_();
  load_.zero_();
}

Routing ScoredRouterImpl::forward(const torch::Tensor& tokens, const RouterContext& context) {
  Routing routing;
  routing.logits = logits_of("ScoredRouter", tokens);
  const auto scores = scores_of(options.score(), routing.logits);
  routing.probs = options.score() == RouterScore::kSoftmax
                      ? scores
                      : scores / (scores.sum(1, true) + kNoDivisionByZero);
  auto wanted = scores.detach();
  if (correction.defined()) wanted = wanted + correction.to(wanted.scalar_type());
  routing.expert_index = top_k_index(within_groups(wanted, options), options.top_k());
  routing.takes_all = false;
  auto chosen = scores.gather(1, routing.expert_index);
  if (options.normalize()) chosen = chosen / (chosen.sum(1, true) + kNoDivisionByZero);
  routing.weight = (chosen * options.weight_scale()).reshape({-1});
  routing.expert = routing.expert_index.reshape({-1});
  routing.token = torch::arange(tokens.size(0), torch::kLong)
                      .unsqueeze(1)
                      .expand_as(routing.expert_index)
                      .reshape({-1});
  // With a graph alone: a pass that only looks at the routings comes before the one that learns.
  if (correction.defined() && context.training && at::GradMode::is_enabled()) {
    const torch::NoGradGuard no_grad;
    load_.add_(torch::bincount(routing.expert, {}, options.num_experts()));
  }
  return routing;
}

void ScoredRouterImpl::end_step(const StepLoad& /*model*/) {
  if (!correction.defined()) return;
  const torch::NoGradGuard no_grad;
  const auto load = load_.to(torch::kFloat64);
  correction.add_((load.mean() - load).sign().to(torch::kFloat32), options.bias_rate());
  load_.zero_();
}

RouterTraits ScoredRouterImpl::traits() const {
  RouterTraits traits;
  traits.top_k = options.top_k();
  traits.combine_weights = CombineWeights::kProbs;
  if (options.normalize() && options.top_k() == 1) {
    traits.no_weight_gradient =
        "top_k = 1 with normalize = true gives the weight 1 whatever the router says";
  }
  return traits;
}

void ScoredRouterImpl::take_experts(ExpertEdit& edit) {
  for (auto* tensor : {&weight, &correction, &load_}) edit.take_rows(*tensor);
  edit.then([this, experts = edit.index.numel()] {
    // Groups of other sizes would be other groups.
    options.num_experts(experts).num_groups(1).kept_groups(1);
    options.group_score(ScoredRouterOptions{}.group_score());
    options.top_k(std::min(options.top_k(), experts));
  });
}

void check_scored_router(const ScoredRouterOptions& options, const LayerSite& site,
                         const std::string& where) {
  check_options(ScoredRouterOptions(options).num_experts(site.num_experts), where + ".");
}

std::shared_ptr<RouterImpl> make_scored_router(const ScoredRouterOptions& options,
                                               const LayerSite& site) {
  return std::make_shared<ScoredRouterImpl>(
      ScoredRouterOptions(options).hidden_size(site.size()).num_experts(site.num_experts));
}

}  // namespace moekit::nn
