#include "moekit/models/classifier.h"

#include "moekit/core/error.h"
#include "moekit/models/mixture_classifier.h"
#include "moekit/models/sequence_classifier.h"
#include "moekit/models/single_classifier.h"
#include "moekit/models/sparse_classifier.h"
#include "moekit/models/sparse_mixture_classifier.h"
#include "moekit/nn/precision.h"

namespace moekit::models {

const std::vector<ModelKinds::Row>& ModelKinds::rows() {
  static const std::vector<Row> kRows = {
      kind<&make_single_classifier, &check_single_classifier>("single", "one expert, no router"),
      kind<&make_mixture_classifier, &check_mixture_classifier>(
          "mixture", "classical mixture of whole classifiers"),
      kind<&make_sparse_classifier, &check_sparse_classifier>(
          "sparse", "a network on vectors with one sparse MoE layer"),
      kind<&make_sparse_mixture_classifier, &check_sparse_mixture_classifier>(
          "sparse_mixture", "sparse layer whose experts are whole classifiers"),
      kind<&make_sequence_classifier, &check_sequence_classifier>(
          "sequence", "an encoder over an image's rows, with linear layers of experts"),
  };
  return kRows;
}

torch::Tensor ClassifierImpl::loss(const ClassifierOutput& output,
                                   const torch::Tensor& labels) const {
  const auto rows = output.rows();
  const auto log_probs = nn::at_least_float(output.log_probs);
  if (!rows.defined()) return torch::nll_loss(log_probs, labels);
  return torch::nll_loss(log_probs.index_select(0, rows), labels.index_select(0, rows));
}

nn::LayerSite image_site(const InputShape& input, int64_t num_experts) {
  return {{input.channels, input.height, input.width},
          num_experts,
          input.num_classes,
          0,
          input.num_classes};
}

MixtureParts make_parts(const KindSection<nn::RouterKinds>& router,
                        const KindSection<nn::ExpertKinds>& experts, nn::LayerSite site) {
  MixtureParts parts;
  parts.experts = experts->make(site);
  site.feature_size = parts.experts->feature_size();
  parts.router = router->make(site);
  return parts;
}

void check_parts(const KindSection<nn::RouterKinds>& router,
                 const KindSection<nn::ExpertKinds>& experts, nn::LayerSite site,
                 const std::string& where) {
  experts->check(site, where + ".expert");
  site.feature_size = experts->make(site)->feature_size();
  router->check(site, where + ".router");
}

void check_sparse_parts(const nn::RouterImpl& router, const nn::ExpertsImpl& experts,
                        const nn::CapacityOptions& capacity, const std::string& where) {
  const auto traits = router.traits();
  nn::check_capacity(capacity, traits.top_k, experts.num_experts() - experts.num_computing(),
                     where + ".");
  nn::check_trainable(traits, traits.no_weight_gradient, where + ".router: ");
}

}  // namespace moekit::models
