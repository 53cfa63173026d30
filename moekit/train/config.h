#pragma once

#include <vector>

#include "moekit/core/kinds.h"
#include "moekit/train/optimizer_kinds.h"
#include "moekit/train/schedule_kinds.h"
#include "moekit/train/trainer.h"

namespace moekit::train {

/// How long and by what a task trains: keys that all tasks with epochs and batches share. A task
/// adds the options of its callbacks to the same section.
struct TrainConfig {
  int64_t epochs = 20;
  int64_t batch_size = 512;
  Choice<OptimizerKinds> optimizer;
  double lr = 1e-3;
  Choice<ScheduleKinds> schedule;
  int64_t warmup_steps = 0;
  double clip_norm = 0;
  int64_t accumulate = 1;
  int64_t checkpoint_steps = 0;
  int64_t keep_every = 0;
  int64_t evaluate_every = 1;
  std::vector<ParameterGroup> groups;

  template <typename Field>
  void visit(Field&& field) {
    field("epochs", epochs, "0: judge the first weights alone", at_least(0).changeable());
    field("batch_size", batch_size, "", at_least(1));
    field("optimizer", optimizer, "");
    field("lr", lr, "learning rate", above(0));
    field("schedule", schedule, "of the learning rate, down to 0 at the end");
    field("warmup_steps", warmup_steps, "steps in which the learning rate rises", at_least(0));
    field("clip_norm", clip_norm, "largest norm of all gradients together; 0: no limit",
          at_least(0));
    field("accumulate", accumulate, "parts a batch is taken in, for batches beyond the memory",
          at_least(1));
    field("checkpoint_steps", checkpoint_steps, "also save every n steps; 0: after each epoch",
          at_least(0).changeable());
    field("keep_every", keep_every, "keep the checkpoint of every n-th epoch; 0: the newest only",
          at_least(0).changeable());
    field("evaluate_every", evaluate_every, "epochs between tests and checkpoints",
          at_least(1).changeable());
    field("groups", groups, "parameter groups { match, lr_scale, weight_decay, normalize }");
  }
};

/// Refuses values that break their fields' rules. @param where  path of the section. @throws
/// ArgumentError
void check(const TrainConfig& config, const std::string& where);

/// Checks and makes the optimizer over the parameters of a module that learn.
std::unique_ptr<torch::optim::Optimizer> make_optimizer(const TrainConfig& config,
                                                        torch::nn::Module& module);

TrainerOptions trainer_options(const TrainConfig& config, uint64_t seed);

}  // namespace moekit::train
