#pragma once

#include <memory>
#include <string>

#include "moekit/core/field_rule.h"
#include "moekit/data/datasets.h"
#include "moekit/models/classifier.h"
#include "moekit/nn/loss_kinds.h"
#include "moekit/train/config.h"

namespace moekit::classification {

struct DataConfig {
  Choice<data::DatasetKinds> set;
  int64_t train_limit = 0;
  int64_t test_limit = 0;
  int64_t holdout = 0;
  int64_t validation = 0;
  bool augment = false;

  template <typename Field>
  void visit(Field&& field) {
    field("name", set, "data set; see `moekit data list`");
    field("train_limit", train_limit, "use the first n training images; 0: all", at_least(0));
    field("test_limit", test_limit, "use the first n test images; 0: all", at_least(0));
    field("holdout", holdout, "test on n training images drawn by the seed; 0: the test set",
          at_least(0));
    field("validation", validation, "training images set apart for early stopping", at_least(0));
    field("augment", augment, "random flips and crops of the training images");
  }
};

class ClassificationProblem;

/// What the callbacks of a classification run are made for.
struct CallbackSite : train::CallbackSite {
  ClassificationProblem* problem = nullptr;
};

/// The table of callbacks; each brings its keys to the section `train`.
struct CallbackKinds {
  using Row = Kind<std::unique_ptr<train::Callback>, CallbackSite>;
  static constexpr const char* kWhat = "callback";
  static const std::vector<Row>& rows();
};

struct TrainSection {
  train::TrainConfig loop;
  OptionSet<CallbackKinds> callbacks;

  template <typename Field>
  void visit(Field&& field) {
    loop.visit(field);
    callbacks.visit(field);
  }
};

/// Where weights come from, and which of them learn.
struct InitConfig {
  std::string router_from;
  std::string trunk_from;
  std::string experts_from;
  std::string dense_from;
  int64_t experts_seed = 0;
  bool freeze_router = false;
  bool freeze_experts = false;

  template <typename Field>
  void visit(Field&& field) {
    field("router_from", router_from, "run whose whole router is copied");
    field("trunk_from", trunk_from, "run whose router's trunk is copied");
    field("experts_from", experts_from, "run whose experts are copied");
    field("dense_from", dense_from,
          "run of one expert a layer: every expert begins as that one, and what is no router or "
          "expert is copied");
    field("experts_seed", experts_seed, "seed of the experts' first weights; 0: the run's seed",
          at_least(0, kAnySeed));
    field("freeze_router", freeze_router, "the router does not learn");
    field("freeze_experts", freeze_experts, "the experts do not learn");
  }
};

/// A recipe of `task = "classification"`: everything a run depends on.
struct Config {
  std::string task = "classification";
  int64_t seed = 1;
  int64_t threads = 1;
  bool events = true;
  DataConfig data;
  KindSection<models::ModelKinds> model;
  OptionSet<nn::LossKinds> loss;
  TrainSection train;
  InitConfig init;

  template <typename Field>
  void visit(Field&& field) {
    field("task", task, "what kind of run this is");
    field("seed", seed, "of every random choice", at_least(0, kAnySeed));
    field("threads", threads, "one is fastest for small models: run seeds side by side instead",
          at_least(1, kMostThreads));
    field("events", events, "also write event files for TensorBoard", changeable());
    field("data", data, "");
    field("model", model, "");
    field("loss", loss, "");
    field("train", train, "");
    field("init", init, "");
  }
};

/// Refuses impossible values that depend neither on the data set nor on the model.
/// @throws ArgumentError naming the key.
void validate(const Config& config);

/// The recipe of a run folder, as resolved.
Config read_config(const std::filesystem::path& run);

}  // namespace moekit::classification
