#pragma once

#include "moekit/core/field_rule.h"
#include "moekit/models/classifier.h"

namespace moekit::models {

/// How a sparse mixture's output becomes a loss.
enum class OutputLoss {
  kCrossEntropy,   ///< of the softmax of the output
  kDoubleSoftmax,  ///< softmax taken twice, as a released code does: floor log(1 + (C-1)/e)
};

/// A sparse layer whose experts are whole classifiers, of which only the chosen are run: the output
/// is the weighted sum of their logits.
struct SparseMixtureConfig {
  int64_t num_experts = 5;
  nn::CapacityOptions capacity;
  OutputLoss output_loss = OutputLoss::kCrossEntropy;
  KindSection<nn::ExpertKinds> expert;
  KindSection<nn::RouterKinds> router;

  template <typename Field>
  void visit(Field&& field) {
    field("num_experts", num_experts, "E", at_least(1));
    capacity.visit(field);
    field("output_loss", output_loss, "loss of a sparse mixture");
    field("expert", expert, "");
    field("router", router, "");
  }
};
void check_sparse_mixture_classifier(const SparseMixtureConfig& config, const InputShape& input,
                                     const std::string& where);
std::shared_ptr<ClassifierImpl> make_sparse_mixture_classifier(const SparseMixtureConfig& config,
                                                               const InputShape& input);

}  // namespace moekit::models

template <>
struct moekit::EnumNames<moekit::models::OutputLoss> {
  static constexpr std::array<std::pair<models::OutputLoss, std::string_view>, 2> kTable{{
      {models::OutputLoss::kCrossEntropy, "cross_entropy"},
      {models::OutputLoss::kDoubleSoftmax, "double_softmax"},
  }};
};
