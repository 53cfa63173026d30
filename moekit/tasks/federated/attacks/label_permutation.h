#pragma once

#include "moekit/tasks/federated/attack_kinds.h"

namespace moekit::federated {

struct LabelPermutationOptions : AttackerOptions {
  double classes = 1;

  template <typename Field>
  void visit(Field&& field) {
    AttackerOptions::visit(field);
    field("classes", classes, "share of the classes whose labels are exchanged", above(0, 1));
  }
};

/// Trains on labels of which some classes are exchanged, each for another one; every attacker
/// exchanges others.
/// Source: Parsaeefard, Etesami, Leon-Garcia 2021, arXiv:2104.11700, released code (labels).
class LabelPermutation : public Attack {
 public:
  explicit LabelPermutation(const LabelPermutationOptions& options)
      : Attack(options), classes_(options.classes) {}
  void poison(data::ImageSet& set, int64_t num_classes, uint64_t seed) const override;

 private:
  double classes_;
};

void check_label_permutation(const LabelPermutationOptions& options, const AttackSite& site,
                             const std::string& where);
std::unique_ptr<Attack> make_label_permutation(const LabelPermutationOptions& options,
                                               const AttackSite& site);

}  // namespace moekit::federated
