#pragma once

#include "moekit/tasks/federated/attack_kinds.h"

namespace moekit::federated {

/// Returns -w_g.
/// Source: Parsaeefard, Etesami, Leon-Garcia 2021, arXiv:2104.11700, released code, type 2.
class SignFlip : public Attack {
 public:
  using Attack::Attack;
  bool trains() const override { return false; }
  merge::WeightSet weights(const AttackRound& round) const override;
};

std::unique_ptr<Attack> make_sign_flip(const AttackerOptions& options, const AttackSite& site);

}  // namespace moekit::federated
