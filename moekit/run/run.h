#pragma once

#include <memory>
#include <utility>
#include <vector>

#include "moekit/run/run_folder.h"
#include "moekit/train/config.h"
#include "moekit/train/trainer.h"

namespace moekit::run {

/// A run: what is trained, how, and when it is looked at and saved.
struct RunPlan {
  RunRecipe recipe;
  int64_t seed = 1;
  int64_t threads = 1;
  train::Problem* problem = nullptr;
  std::unique_ptr<torch::optim::Optimizer> optimizer;  ///< may be null
  train::TrainerOptions trainer;
  std::vector<nn::AuxLoss> losses;
  std::vector<std::unique_ptr<train::Callback>> callbacks;  ///< null ones are left out
  int64_t evaluate_every = 1;                               ///< epochs between lines of metrics
  int64_t checkpoint_steps = 0;                             ///< also save every n steps; 0: not
  int64_t keep_every = 0;         ///< keep the checkpoint of every n-th epoch; 0: the newest only
  bool save_after_epochs = true;  ///< after those that give a line of metrics
  bool events = true;             ///< also write event files for TensorBoard
};

/// A plan for a problem, by what all recipes say: seed, threads, event files.
template <typename Config>
RunPlan plan_of(const Config& config, RunRecipe recipe, train::Problem& problem) {
  RunPlan plan;
  plan.recipe = std::move(recipe);
  plan.seed = config.seed;
  plan.threads = config.threads;
  // Kinds of runs without the key have no lines of metrics.
  if constexpr (requires { config.events; }) {
    plan.events = config.events;
  } else {
    plan.events = false;
  }
  plan.problem = &problem;
  plan.trainer.seed = static_cast<uint64_t>(config.seed);
  return plan;
}

/// Adds to it what recipes with epochs and batches say: optimizer, steps, when the run is judged
/// and saved. @param module  what the optimizer moves
void train_by(const train::TrainConfig& loop, torch::nn::Module& module, RunPlan& plan);

/// Trains in a run folder:
///   config.toml      the resolved recipe         run.json     seed, version, thread count, machine
///   metrics.jsonl    one line a test             summary.json the final figures
///   events.out.tfevents.*  the same lines for TensorBoard, see events::EventLog
///   checkpoints/step-N/  model, optimizer, state, checksums; the two newest (of a finished run the
///                    newest), and those of `keep_every`
///   model/           config.json and model.safetensors of the finished model, and their checksums
///   run.lock         the process that trains here, held as long as it does
/// Each file is written to a temporary name, synced and renamed. With `resume` the run goes on
/// from its newest sound checkpoint, to the same numbers; a finished run is left as it is. An
/// interrupt saves and stops. A new folder in which not one step was done is removed again.
/// Parameters that should learn and have no gradient in a whole epoch are named once, in a notice
/// and in the summary.
///
/// With `extend` the recipe may differ in keys that are marked as changeable: more epochs, above
/// all. A run that is over goes on, then; where nothing in a step depends on the length of the run
/// (a constant learning rate, `evaluate_every` that divides the epochs) it ends in the numbers of a
/// run that had that recipe from the start.
/// @throws ArgumentError when the folder holds a run and `resume` is off, or holds another recipe,
///         or the changed recipe leaves nothing to do; the folder is as it was then;
/// IoError naming the process that trains in it.
RunStatus run(RunPlan plan, const RunOptions& options);

}  // namespace moekit::run
