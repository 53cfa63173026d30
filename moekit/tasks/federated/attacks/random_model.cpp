#include "moekit/tasks/federated/attacks/random_model.h"

#include "moekit/tensor/generator.h"

namespace moekit::federated {

merge::WeightSet RandomModel::weights(const AttackRound& round) const {
  nn::MlpExperts fresh(nn::MlpExpertsOptions(round.net).num_experts(1));
  fresh->reset_parameters(tensor::make_generator(round.seed));
  return nn::expert_tensors(*fresh, 0);
}

std::unique_ptr<Attack> make_random_model(const AttackerOptions& options, const AttackSite&) {
  return std::make_unique<RandomModel>(options);
}

}  // namespace moekit::federated
