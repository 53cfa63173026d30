#pragma once

#include <cstdint>
#include <string>

namespace moekit::published {

/// How a router's logits become a choice of experts and weights of their outputs.
struct RouterRule {
  enum class Scores { kSoftmax, kSigmoid, kLogits };
  /// What a chosen expert's output is multiplied with, before `scale`.
  enum class Weights {
    kScore,            ///< its score
    kNormalised,       ///< divided by the sum of those chosen
    kSoftmaxOfChosen,  ///< of the logits of those chosen
    kSigmoid,          ///< of its logit
    kSparsemixer,      ///< each of two, by a softmax over the logits that are near the largest
  };

  Scores scores = Scores::kSoftmax;
  Weights weights = Weights::kScore;
  bool correction = false;  ///< a learned bias is added to scores for the choice alone
  int64_t num_groups = 1;   ///< experts are chosen in the best `kept_groups` groups
  int64_t kept_groups = 1;
  bool two_largest = false;  ///< a group counts by its two largest scores, else by its largest
  double norm_power = 1;     ///< of the norm that weights are divided by
  double scale = 1;
  double jitter = 0;      ///< eps of sparsemixer
  bool on_input = false;  ///< the weight multiplies the expert's input
};

/// "softmax over all 64, the best 8; weights divided by their sum".
std::string router_words(const RouterRule& rule, int64_t num_experts, int64_t top_k);

}  // namespace moekit::published
