#pragma once

#include <string>

#include "moekit/core/field_rule.h"
#include "moekit/data/datasets.h"
#include "moekit/merge/aggregator_kinds.h"
#include "moekit/tasks/federated/attack_kinds.h"
#include "moekit/tasks/federated/split_kinds.h"

namespace moekit::federated {

struct DataConfig {
  Choice<data::DatasetKinds> set;
  int64_t train_limit = 0;
  int64_t test_limit = 0;
  bool normalize = true;

  template <typename Field>
  void visit(Field&& field) {
    field("name", set, "data set; see `moekit data list`");
    field("train_limit", train_limit, "use the first n training images; 0: all", at_least(0));
    field("test_limit", test_limit, "use the first n test images; 0: all", at_least(0));
    field("normalize", normalize, "by the data set's mean and deviation; else pixels in 0..1");
  }
};

/// A recipe of `task = "federated"`.
struct Config {
  std::string task = "federated";
  int64_t seed = 1;
  int64_t threads = 1;
  bool events = true;
  DataConfig data;
  int64_t users = 100;
  int64_t per_round = 30;
  int64_t rounds = 20;
  double lr = 0.01;
  int64_t batch_size = 20;
  int64_t local_epochs = 1;
  double public_share = 0.15;
  int64_t hidden_size = 64;
  KindSection<SplitKinds> split;
  KindSection<AttackKinds> attack;
  KindSection<merge::AggregatorKinds> aggregation;

  template <typename Field>
  void visit(Field&& field) {
    field("task", task, "what kind of run this is");
    field("seed", seed, "of every random choice", at_least(0, kAnySeed));
    field("threads", threads, "", at_least(1, kMostThreads));
    field("events", events, "also write event files for TensorBoard", changeable());
    field("data", data, "");
    field("users", users, "U", at_least(1, 1e6));
    field("per_round", per_round, "K, users of a round", at_least(1, 1e6));
    field("rounds", rounds, "", at_least(1, 1e6).changeable());
    field("lr", lr, "of plain SGD, at users and server", above(0));
    field("batch_size", batch_size, "at users and server", at_least(1));
    field("local_epochs", local_epochs, "passes over its data in a round", at_least(1, 1e6));
    field("public_share", public_share, "of its samples a user copies to the server", above(0, 1));
    field("hidden_size", hidden_size, "units of the network's one hidden layer", at_least(1));
    field("split", split, "");
    field("attack", attack, "");
    field("aggregation", aggregation, "");
  }
};

/// Refuses impossible values that do not depend on the data set.
/// @throws ArgumentError naming the key.
void validate(const Config& config);

}  // namespace moekit::federated
