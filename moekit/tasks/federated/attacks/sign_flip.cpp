#include "moekit/tasks/federated/attacks/sign_flip.h"

namespace moekit::federated {

merge::WeightSet SignFlip::weights(const AttackRound& round) const {
  merge::WeightSet negated;
  for (const auto& [name, tensor] : round.current) negated.emplace_back(name, -tensor);
  return negated;
}

std::unique_ptr<Attack> make_sign_flip(const AttackerOptions& options, const AttackSite&) {
  return std::make_unique<SignFlip>(options);
}

}  // namespace moekit::federated
