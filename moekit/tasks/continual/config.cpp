#include "moekit/tasks/continual/config.h"

#include <set>

namespace moekit::continual {
namespace {

constexpr int64_t kMostSteps = int64_t{1} << 40;  // far beyond any run

}  // namespace

train::TrainConfig TrainSection::loop() const {
  train::TrainConfig out;
  out.epochs = 1;
  out.batch_size = batch_size;
  out.optimizer = optimizer;
  out.lr = lr;
  out.schedule = schedule;
  out.warmup_steps = warmup_steps;
  out.clip_norm = clip_norm;
  out.checkpoint_steps = checkpoint_steps;
  out.groups = groups;
  return out;
}

data::StreamOptions stream_options(const Config& config) {
  const StreamConfig& s = config.stream;
  return {s.tasks, s.side, s.train_limit, s.test_limit, s.validation, s.per_class};
}

void validate(const Config& config) {
  check_values(config, "");
  train::check(config.train.loop(), "train");
  const auto& tasks = config.stream.tasks;
  MOEKIT_CHECK(!tasks.empty(), "stream.tasks: wants a task at least; got none");
  std::set<std::string> seen;
  for (const auto& task : tasks) {
    try {
      data::parse_task(task);
    } catch (const ArgumentError& error) {
      throw ArgumentError(concat("stream.tasks: \"", task, "\": ", error.what()));
    }
    MOEKIT_CHECK(seen.insert(task).second, "stream.tasks: \"", task, "\" is there twice");
  }
  const size_t scales = config.train.lr_scales.size();
  MOEKIT_CHECK(scales == 0 || scales == tasks.size(), "train.lr_scales: wants one a task, ",
               tasks.size(), "; got ", scales);
  MOEKIT_CHECK(config.train.best_every == 0 || config.stream.validation > 0,
               "train.best_every: wants images to judge by: set stream.validation; got ",
               config.train.best_every);
  MOEKIT_CHECK(config.train.best_every <= config.train.steps, "train.best_every: a task has ",
               config.train.steps, " steps; got ", config.train.best_every);
  MOEKIT_CHECK(config.train.steps <= kMostSteps / static_cast<int64_t>(tasks.size()),
               "train.steps: ", config.train.steps, " for each of ", tasks.size(),
               " tasks is more than any run can take");
}

}  // namespace moekit::continual
