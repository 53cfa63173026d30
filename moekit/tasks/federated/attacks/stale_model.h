#pragma once

#include "moekit/tasks/federated/attack_kinds.h"

namespace moekit::federated {

struct StaleModelOptions : AttackerOptions {
  int64_t rounds_ago = 5;

  template <typename Field>
  void visit(Field&& field) {
    AttackerOptions::visit(field);
    field("rounds_ago", rounds_ago, "age of the returned global model", at_least(1, 1000));
  }
};

/// Returns the global model of some rounds ago, in the first rounds the first one.
/// Source: arXiv:2104.11700 names outdated users; what they return is our reading [inferred].
class StaleModel : public Attack {
 public:
  explicit StaleModel(const StaleModelOptions& options)
      : Attack(options), rounds_ago_(options.rounds_ago) {}
  bool trains() const override { return false; }
  merge::WeightSet weights(const AttackRound& round) const override { return round.past; }
  int64_t memory() const override { return rounds_ago_; }

 private:
  int64_t rounds_ago_;
};

void check_stale_model(const StaleModelOptions& options, const AttackSite& site,
                       const std::string& where);
std::unique_ptr<Attack> make_stale_model(const StaleModelOptions& options, const AttackSite& site);

}  // namespace moekit::federated
