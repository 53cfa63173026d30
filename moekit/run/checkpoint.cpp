#include "moekit/run/checkpoint.h"

#include <memory>
#include <optional>

#include "moekit/checkpoint/manifest.h"
#include "moekit/checkpoint/module_io.h"
#include "moekit/checkpoint/optimizer_io.h"
#include "moekit/checkpoint/sharded.h"
#include "moekit/core/error.h"
#include "moekit/core/files.h"
#include "moekit/core/schema.h"
#include "moekit/run/run_folder.h"

namespace moekit::run {
namespace fs = std::filesystem;
namespace {

void write_model(const fs::path& folder, train::Problem& problem) {
  write_json(folder / "config.json", problem.describe());
  checkpoint::write_safetensors(folder / "model.safetensors",
                                checkpoint::module_tensors(problem.module()));
}

/// A checkpoint that was read and found sound, but not yet taken over.
struct Checkpoint {
  fs::path path;
  bool checked = false;  ///< against a manifest
  train::LoopState loop;
  Json state;  ///< state.json
  Json description;
  std::unique_ptr<checkpoint::TensorSource> model;
  std::unique_ptr<checkpoint::TensorSource> optimizer;
};

/// Refuses counters that no run has. @param step  by the folder's name
void check_counters(const train::LoopState& loop, const train::Problem& problem, int64_t step,
                    const std::string& where) {
  MOEKIT_CHECK_FORMAT(loop.step == step, where, ": trainer.step must be ", step,
                      ", as in the folder's name; got ", loop.step);
  MOEKIT_CHECK_FORMAT(loop.step <= problem.total_steps(), where, ": trainer.step must be at most ",
                      problem.total_steps(), ", the steps of the run; got ", loop.step);
  const int64_t per_epoch = problem.steps_per_epoch();
  const int64_t epoch = loop.step / per_epoch;
  const int64_t batch = loop.step % per_epoch;
  const bool within = loop.epoch == epoch && loop.batch == batch;
  const bool after_short_epoch =
      loop.step == problem.total_steps() && batch > 0 && loop.epoch == epoch + 1 && loop.batch == 0;
  MOEKIT_CHECK_FORMAT(within || after_short_epoch, where, ": trainer.epoch and trainer.batch must ",
                      "be ", epoch, " and ", batch, " at step ", loop.step, "; got ", loop.epoch,
                      " and ", loop.batch);
  MOEKIT_CHECK_FORMAT((loop.seen > 0) == (loop.batch > 0), where, ": trainer.seen must be ",
                      loop.batch > 0 ? "above 0" : "0", " after ", loop.batch,
                      " steps of an epoch; got ", loop.seen);
  MOEKIT_CHECK_FORMAT(loop.seen > 0 || (loop.loss_sum == 0 && loop.aux_sum == 0), where,
                      ": trainer.loss_sum and trainer.aux_sum must be 0 between epochs; got ",
                      loop.loss_sum, " and ", loop.aux_sum);
}

/// Refuses lines that no run has written by this step.
void check_metrics(const Json& lines, int64_t step, const std::string& where) {
  int64_t before = -1;
  for (const auto& line : lines) {
    const auto at = line["step"].get<int64_t>();
    MOEKIT_CHECK_FORMAT(at > before && at <= step, where,
                        ": metrics must stand at rising steps up ", "to ", step, "; got ", at,
                        " after ", before);
    before = at;
  }
}

/// Reads and checks all of a checkpoint; changes nothing.
Checkpoint open_checkpoint(const fs::path& path, int64_t step, train::Trainer& trainer) {
  static const Schema kState = Schema::object(
      {{"trainer", schema_of<train::LoopState>()},
       {"problem", Schema::map(Schema::any())},
       {"callbacks", Schema::map(Schema::map(Schema::any()))},
       {"metrics", Schema::list(Schema::object(
                       {{"step", Schema::count()}, {"epoch", Schema::count(), false}}))}});
  static const Schema kSums = Schema::map(Schema::number());
  Checkpoint out;
  out.path = path;
  out.checked = checkpoint::check_manifest(path);
  const std::string where = (path / "state.json").string();
  out.state = read_json(where);
  kState.check(out.state, where);
  bind_state(out.state["trainer"], concat(where, ": trainer"), out.loop);
  kSums.check(out.loop.sums, concat(where, ": trainer.sums"));
  check_counters(out.loop, trainer.problem(), step, where);
  check_metrics(out.state["metrics"], step, where);
  out.description = read_json(path / "config.json");
  out.model = checkpoint::open_tensors(path / "model.safetensors");
  if (trainer.optimizer() != nullptr) {
    out.optimizer = checkpoint::open_tensors(path / "optimizer.safetensors");
  }
  return out;
}

void take_over(const Checkpoint& from, train::Trainer& trainer, std::vector<Json>& metrics) {
  const std::string where = (from.path / "state.json").string();
  train::Problem& problem = trainer.problem();
  trainer.state = from.loop;
  problem.load_state(from.state["problem"], where);
  for (auto* callback : trainer.callbacks()) {
    const auto found = from.state["callbacks"].find(std::string(callback->name()));
    if (found != from.state["callbacks"].end()) callback->load_state(*found, where);
  }
  metrics = from.state["metrics"].get<std::vector<Json>>();
  // First the model's shape: experts may have been taken out on the way.
  problem.restore(from.description, (from.path / "config.json").string());
  checkpoint::load_module_tensors(problem.module(), *from.model);
  if (from.optimizer) {
    checkpoint::load_optimizer_tensors(*trainer.optimizer(), problem.module(), *from.optimizer,
                                       from.loop.step);
  }
}

/// Renames a damaged checkpoint, so that nobody takes it for one; its owner may still save it.
void set_aside(const fs::path& checkpoint) {
  const fs::path aside = checkpoint.string() + ".damaged";
  std::error_code error;
  fs::remove_all(aside, error);
  fs::rename(checkpoint, aside, error);
  if (error) throw IoError(concat("cannot rename ", checkpoint.string(), ": ", error.message()));
}

}  // namespace

void save_model(const fs::path& folder, train::Problem& problem) {
  write_model(folder, problem);
  checkpoint::write_manifest(folder);
}

void save_checkpoint(const fs::path& folder, train::Trainer& trainer,
                     const std::vector<Json>& metrics) {
  create_folders(folder / "checkpoints");
  FolderTransaction transaction(folder / "checkpoints" / concat("step-", trainer.state.step));
  write_model(transaction.path(), trainer.problem());
  if (trainer.optimizer() != nullptr) {
    checkpoint::write_safetensors(
        transaction.path() / "optimizer.safetensors",
        checkpoint::optimizer_tensors(*trainer.optimizer(), trainer.problem().module()));
  }
  Json callbacks = Json::object();
  for (const auto* callback : trainer.callbacks()) {
    if (auto state = callback->state(); !state.empty()) {
      callbacks[std::string(callback->name())] = std::move(state);
    }
  }
  write_json(transaction.path() / "state.json", {{"trainer", to_json(trainer.state)},
                                                 {"problem", trainer.problem().state()},
                                                 {"callbacks", std::move(callbacks)},
                                                 {"metrics", metrics}});
  checkpoint::write_manifest(transaction.path());
  transaction.commit();
}

void load_newest_checkpoint(const fs::path& folder, train::Trainer& trainer,
                            std::vector<Json>& metrics,
                            const std::function<void(const std::string& text)>& notice) {
  const auto found = list_checkpoints(folder);
  std::optional<Checkpoint> sound;
  std::vector<std::string> problems;
  std::vector<fs::path> damaged;
  for (auto at = found.rbegin(); at != found.rend() && !sound; ++at) {
    try {
      auto opened = open_checkpoint(at->second, at->first, trainer);
      // What one that turns out not to fit has left behind, the next one replaces.
      take_over(opened, trainer, metrics);
      sound = std::move(opened);
    } catch (const Error& error) {
      problems.emplace_back(error.what());
      damaged.push_back(at->second);
    }
  }
  if (found.empty()) return;
  MOEKIT_CHECK_FORMAT(sound, folder.string(), ": no checkpoint is sound; to train anew, remove ",
                      (folder / "checkpoints").string(), ". The newest: ", problems.front());
  for (const auto& path : damaged) set_aside(path);
  if (!notice) return;
  for (const auto& problem : problems) notice(problem);
  const std::string path = sound->path.string();
  if (!problems.empty()) {
    notice(concat("going on from ", path, ", the newest sound checkpoint; what is damaged was ",
                  "renamed to step-N.damaged"));
  }
  if (!sound->checked) notice(concat(path, ": has no manifest.json: loaded unchecked"));
}

void remove_checkpoints(const fs::path& folder, int64_t keep_steps, int64_t newest) {
  auto found = list_checkpoints(folder);
  for (int64_t i = 0; i < newest && !found.empty(); ++i) found.erase(std::prev(found.end()));
  for (const auto& [step, path] : found) {
    if (keep_steps == 0 || step % keep_steps != 0) remove_folder(path);
  }
}

}  // namespace moekit::run
