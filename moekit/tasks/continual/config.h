#pragma once

#include <memory>
#include <string>
#include <vector>

#include "moekit/core/field_rule.h"
#include "moekit/core/kinds.h"
#include "moekit/data/task_stream.h"
#include "moekit/nn/loss_kinds.h"
#include "moekit/tasks/continual/protection.h"
#include "moekit/tasks/continual/selector.h"
#include "moekit/tasks/continual/stream_model.h"
#include "moekit/train/config.h"

namespace moekit::continual {

struct StreamConfig {
  std::vector<std::string> tasks = {
      "fashion-mnist/invert", "fashion-mnist/rotate90", "fashion-mnist/flip", "fashion-mnist/noise",
      "fashion-mnist/shift",  "fashion-mnist/binarise", "fashion-mnist"};
  int64_t side = 28;
  int64_t train_limit = 20000;
  int64_t test_limit = 0;
  int64_t validation = 0;
  int64_t per_class = 0;

  template <typename Field>
  void visit(Field&& field) {
    field("tasks", tasks, "in the order they are learnt: SET or SET/TRANSFORM, as mnist/invert");
    field("side", side, "of the images in pixels; others are resized", at_least(1, 1024));
    field("train_limit", train_limit, "use the first n training images of a task; 0: all",
          at_least(0));
    field("test_limit", test_limit, "use the first n test images of a task; 0: all", at_least(0));
    field("validation", validation, "training images of a task set apart, to choose settings by",
          at_least(0));
    field("per_class", per_class,
          "few-shot: of the rest n of each class, drawn by the seed; 0: all", at_least(0));
  }
};

/// The table of callbacks; each brings its keys to the section `train`.
struct CallbackKinds {
  using Row = Kind<std::unique_ptr<train::Callback>, train::CallbackSite>;
  static constexpr const char* kWhat = "callback";
  static const std::vector<Row>& rows();
};

struct TrainSection {
  int64_t steps = 300;
  int64_t batch_size = 64;
  Choice<train::OptimizerKinds> optimizer;
  double lr = 1e-3;
  std::vector<double> lr_scales;
  Choice<train::ScheduleKinds> schedule;
  int64_t warmup_steps = 0;
  double clip_norm = 0;
  int64_t best_every = 0;
  int64_t checkpoint_steps = 0;
  std::vector<train::ParameterGroup> groups;
  OptionSet<CallbackKinds> callbacks;

  template <typename Field>
  void visit(Field&& field) {
    field("steps", steps, "of each task", at_least(1));
    field("batch_size", batch_size, "", at_least(1));
    field("optimizer", optimizer, "begins anew with every task");
    field("lr", lr, "learning rate", above(0));
    field("lr_scales", lr_scales, "times the learning rate, one a task; empty: 1", at_least(0));
    field("schedule", schedule, "of the learning rate, down to 0 at the end of a task");
    field("warmup_steps", warmup_steps, "steps of a task in which the learning rate rises",
          at_least(0));
    field("clip_norm", clip_norm, "largest norm of all gradients together; 0: no limit",
          at_least(0));
    field("best_every", best_every,
          "a task ends in its best state on validation, looked at every n steps; 0: in its last",
          at_least(0));
    field("checkpoint_steps", checkpoint_steps, "also save every n steps; 0: after each task",
          at_least(0).changeable());
    field("groups", groups, "parameter groups { match, lr_scale, weight_decay, normalize }");
    callbacks.visit(field);
  }
  /// What of it the loop takes.
  train::TrainConfig loop() const;
};

/// A recipe of `task = "continual"`: tasks that are learnt one after another, and judged on all of
/// them after each.
struct Config {
  std::string task = "continual";
  int64_t seed = 1;
  int64_t threads = 1;
  bool events = true;
  StreamConfig stream;
  KindSection<StreamModelKinds> model;
  OptionSet<ProtectionKinds> protect;
  SelectorConfig selector;
  OptionSet<nn::LossKinds> loss;
  TrainSection train;

  template <typename Field>
  void visit(Field&& field) {
    field("task", task, "what kind of run this is");
    field("seed", seed, "of every random choice", at_least(0, kAnySeed));
    field("threads", threads, "", at_least(1, kMostThreads));
    field("events", events, "also write event files for TensorBoard", changeable());
    field("stream", stream, "");
    field("model", model, "");
    field("protect", protect, "");
    field("selector", selector, "");
    field("loss", loss, "");
    field("train", train, "");
  }
};

/// Refuses impossible values that do not depend on the data. @throws ArgumentError naming the key
void validate(const Config& config);

data::StreamOptions stream_options(const Config& config);

}  // namespace moekit::continual
