#pragma once

#include <string>
#include <vector>

#include "moekit/core/config.h"
#include "moekit/data/datasets.h"
#include "moekit/models/config.h"
#include "moekit/nn/losses/aux_loss.h"
#include "moekit/train/normalized_gd.h"

namespace moekit::train {

struct DataConfig {
  Choice<data::DatasetKinds> set;
  int64_t train_limit = 0;
  int64_t test_limit = 0;
  int64_t holdout = 0;
  int64_t validation = 0;
  bool augment = false;

  template <typename Field>
  void visit(Field&& field) {
    field("name", set, data::DatasetKinds::kDoc);
    field("train_limit", train_limit, "use the first n training images; 0: all");
    field("test_limit", test_limit, "use the first n test images; 0: all");
    field("holdout", holdout, "test on n training images drawn by the seed; 0: the test set");
    field("validation", validation, "training images set apart for early stopping");
    field("augment", augment, "random flips and crops of the training images");
  }
};

enum class OptimizerKind { kAdam, kAdamW, kSgd, kNormalizedGd };
enum class Schedule { kConstant, kCosine, kLinear };

/// Parameters whose name starts with `match` learn with settings of their own.
struct ParameterGroup {
  std::string match;
  double lr_scale = 1;
  double weight_decay = 0;
  bool normalize = false;

  template <typename Field>
  void visit(Field&& field) {
    field("match", match, "start of the parameters' names");
    field("lr_scale", lr_scale, "times the learning rate");
    field("weight_decay", weight_decay, "");
    field("normalize", normalize, "stacked experts, one norm each; for normalized_gd");
  }
};

struct TrainConfig {
  int64_t epochs = 20;
  int64_t batch_size = 512;
  OptimizerKind optimizer = OptimizerKind::kAdam;
  double lr = 1e-3;
  double momentum = 0;
  double weight_decay = 0;
  Schedule schedule = Schedule::kConstant;
  int64_t warmup_steps = 0;
  double clip_norm = 0;
  int64_t patience = 0;
  int64_t checkpoint_steps = 0;
  int64_t keep_every = 0;
  int64_t evaluate_every = 1;
  bool noisy_test = false;
  double stop_below = 0;
  double stop_rise = 0;
  int64_t stop_from_epoch = 0;
  GradientNorm gradient_norm = GradientNorm::kSumOfNorms;
  std::vector<ParameterGroup> groups;

  template <typename Field>
  void visit(Field&& field) {
    field("epochs", epochs, "0: judge the first weights alone");
    field("batch_size", batch_size, "");
    field("optimizer", optimizer, "");
    field("lr", lr, "learning rate");
    field("momentum", momentum, "for sgd");
    field("weight_decay", weight_decay, "");
    field("schedule", schedule, "of the learning rate, down to 0 at the end");
    field("warmup_steps", warmup_steps, "steps in which the learning rate rises");
    field("clip_norm", clip_norm, "largest norm of all gradients together; 0: no limit");
    field("patience", patience, "stop after so many tests without a better validation loss");
    field("checkpoint_steps", checkpoint_steps, "also save every n steps; 0: after each epoch");
    field("keep_every", keep_every, "keep the checkpoint of every n-th epoch; 0: the newest only");
    field("evaluate_every", evaluate_every, "epochs between tests and checkpoints");
    field("noisy_test", noisy_test, "in the end also judge with the router's noise left on");
    field("stop_below", stop_below, "stop when the training loss is at most this; 0: never");
    field("stop_rise", stop_rise, "stop when it is this much above its lowest; 0: never");
    field("stop_from_epoch", stop_from_epoch, "first epoch at which these two may stop a run");
    field("gradient_norm", gradient_norm, "what normalized_gd divides by");
    field("groups", groups, "parameter groups { match, lr_scale, weight_decay, normalize }");
  }
};

/// Where weights come from, and which of them learn.
struct InitConfig {
  std::string router_from;
  std::string trunk_from;
  std::string experts_from;
  int64_t experts_seed = 0;
  bool freeze_router = false;
  bool freeze_experts = false;

  template <typename Field>
  void visit(Field&& field) {
    field("router_from", router_from, "run whose whole router is copied");
    field("trunk_from", trunk_from, "run whose router's trunk is copied");
    field("experts_from", experts_from, "run whose experts are copied");
    field("experts_seed", experts_seed, "seed of the experts' first weights; 0: the run's seed");
    field("freeze_router", freeze_router, "the router does not learn");
    field("freeze_experts", freeze_experts, "the experts do not learn");
  }
};

/// A recipe: everything a run depends on.
struct RunConfig {
  std::string task = "classification";
  int64_t seed = 1;
  int64_t threads = 1;
  DataConfig data;
  models::ModelConfig model;
  nn::AuxLossOptions loss;
  TrainConfig train;
  InitConfig init;

  template <typename Field>
  void visit(Field&& field) {
    field("task", task, "what kind of run this is");
    field("seed", seed, "of every random choice");
    field("threads", threads, "one is fastest for small models: run seeds side by side instead");
    field("data", data, "");
    field("model", model, "");
    field("loss", loss, "");
    field("train", train, "");
    field("init", init, "");
  }
};

/// Refuses impossible values that do not depend on the data set.
/// @throws ArgumentError naming the key.
void validate(const RunConfig& config);

}  // namespace moekit::train

template <>
struct moekit::EnumNames<moekit::train::OptimizerKind> {
  static constexpr std::array<std::pair<train::OptimizerKind, std::string_view>, 4> kTable{{
      {train::OptimizerKind::kAdam, "adam"},
      {train::OptimizerKind::kAdamW, "adamw"},
      {train::OptimizerKind::kSgd, "sgd"},
      {train::OptimizerKind::kNormalizedGd, "normalized_gd"},
  }};
};
template <>
struct moekit::EnumNames<moekit::train::Schedule> {
  static constexpr std::array<std::pair<train::Schedule, std::string_view>, 3> kTable{{
      {train::Schedule::kConstant, "constant"},
      {train::Schedule::kCosine, "cosine"},
      {train::Schedule::kLinear, "linear"},
  }};
};
