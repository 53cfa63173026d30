#include "moekit/published/router_rule.h"

#include <fmt/format.h>

namespace moekit::published {
namespace {

std::string scores_words(const RouterRule& rule, int64_t num_experts) {
  switch (rule.scores) {
    case RouterRule::Scores::kSoftmax:
      return fmt::format("softmax over all {}", num_experts);
    case RouterRule::Scores::kSigmoid:
      return fmt::format("a sigmoid for each of {}", num_experts);
    case RouterRule::Scores::kLogits:
      return fmt::format("logits of {}", num_experts);
  }
  return {};
}

std::string weights_words(const RouterRule& rule) {
  switch (rule.weights) {
    case RouterRule::Weights::kScore:
      return "weights are the scores";
    case RouterRule::Weights::kNormalised:
      return rule.norm_power == 1
                 ? "weights divided by their sum"
                 : fmt::format("weights divided by their norm of power {:g}", rule.norm_power);
    case RouterRule::Weights::kSoftmaxOfChosen:
      return "weights a softmax over those chosen";
    case RouterRule::Weights::kSigmoid:
      return "weights a sigmoid";
    case RouterRule::Weights::kSparsemixer:
      return "weights by sparsemixer, each a softmax over logits near the largest";
  }
  return {};
}

}  // namespace

std::string router_words(const RouterRule& rule, int64_t num_experts, int64_t top_k) {
  std::string out = scores_words(rule, num_experts);
  if (rule.correction) out += ", plus a bias for the choice alone";
  out += top_k == 1 ? ", the best" : fmt::format(", the best {}", top_k);
  if (rule.num_groups > 1) {
    out += fmt::format(" in the best {} of {} groups by their {}", rule.kept_groups,
                       rule.num_groups, rule.two_largest ? "two largest" : "largest");
  }
  out += "; " + weights_words(rule);
  if (rule.scale != 1) out += fmt::format(", times {:g}", rule.scale);
  if (rule.on_input) out += ", on the expert's input";
  return out;
}

}  // namespace moekit::published
