#include "moekit/nn/routers/expert_choice_router.h"

#include <algorithm>

#include "moekit/core/error.h"
#include "moekit/nn/top_k.h"

namespace moekit::nn {
namespace {

void check_average(const ExpertChoiceRouterOptions& o, const std::string& where) {
  MOEKIT_CHECK(
      o.experts_per_token() > 0 && o.experts_per_token() <= static_cast<double>(o.num_experts()),
      where, "experts_per_token must be above 0 and at most the ", o.num_experts(),
      " experts; got ", o.experts_per_token());
}

/// Rows of tokens that lie together: where each group begins, and the end.
std::vector<int64_t> groups_of(const torch::Tensor& sequence, int64_t tokens) {
  std::vector<int64_t> begins{0};
  if (sequence.defined()) {
    const auto of = sequence.contiguous();
    const auto* s = of.data_ptr<int64_t>();
    for (int64_t n = 1; n < tokens; ++n) {
      if (s[n] != s[n - 1]) begins.push_back(n);
    }
  }
  begins.push_back(tokens);
  return begins;
}

}  // namespace

ExpertChoiceRouterImpl::ExpertChoiceRouterImpl(ExpertChoiceRouterOptions options_)
    : options(std::move(options_)) {
  check_average(options, "ExpertChoice: ");
  reset();
}

void ExpertChoiceRouterImpl::reset() {
  register_weight(options.num_experts(), options.hidden_size());
  reset_parameters({});
}

Routing ExpertChoiceRouterImpl::forward(const torch::Tensor& tokens, const RouterContext& context) {
  const auto logits = logits_of("ExpertChoice", tokens);
  const auto probs = torch::softmax(logits, 1);
  const bool alone = options.group() == ChoiceGroup::kBatch;
  const auto begins = groups_of(alone ? torch::Tensor() : context.sequence, tokens.size(0));
  std::vector<torch::Tensor> token;
  std::vector<torch::Tensor> expert;
  for (size_t g = 0; g + 1 < begins.size(); ++g) {
    const int64_t count = begins[g + 1] - begins[g];
    if (count == 0) continue;
    const auto wanted = probs.detach().narrow(0, begins[g], count).t();  // [E, count]
    const int64_t capacity = expert_capacity(options.experts_per_token(), count, num_experts());
    const auto chosen = top_k_index(wanted.contiguous(), capacity);  // [E, C]
    token.push_back((chosen + begins[g]).flatten());
    expert.push_back(torch::arange(num_experts(), torch::kLong).repeat_interleave(capacity));
  }
  const auto none = torch::empty({0}, torch::kLong);
  const auto of_token = token.empty() ? none : torch::cat(token);
  const auto of_expert = expert.empty() ? none : torch::cat(expert);
  const auto chosen = probs.flatten().index_select(0, of_token * num_experts() + of_expert);
  return route_assignments(logits, of_token, of_expert, chosen);
}

RouterTraits ExpertChoiceRouterImpl::traits() const {
  RouterTraits traits;
  traits.combine_weights = CombineWeights::kProbs;
  traits.causal = false;
  if (num_experts() == 1) {
    traits.no_weight_gradient = "there is one expert, whose weight is 1 whatever the router says";
  }
  return traits;
}

void ExpertChoiceRouterImpl::take_experts(ExpertEdit& edit) {
  edit.take_rows(weight);
  edit.then([this, experts = edit.index.numel()] {
    const double most = std::min(options.experts_per_token(), static_cast<double>(experts));
    options.num_experts(experts).experts_per_token(most);
  });
}

void check_expert_choice_router(const ExpertChoiceRouterOptions& options, const LayerSite& site,
                                const std::string& where) {
  check_average(ExpertChoiceRouterOptions(options).num_experts(site.num_experts), where + ".");
}

std::shared_ptr<RouterImpl> make_expert_choice_router(const ExpertChoiceRouterOptions& options,
                                                      const LayerSite& site) {
  return std::make_shared<ExpertChoiceRouterImpl>(
      ExpertChoiceRouterOptions(options).hidden_size(site.size()).num_experts(site.num_experts));
}

}  // namespace moekit::nn
