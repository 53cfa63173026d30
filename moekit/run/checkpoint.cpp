#include "moekit/run/checkpoint.h"

#include "moekit/checkpoint/module_io.h"
#include "moekit/checkpoint/optimizer_io.h"
#include "moekit/checkpoint/sharded.h"
#include "moekit/core/error.h"
#include "moekit/core/files.h"
#include "moekit/run/run_folder.h"

namespace moekit::run {
namespace fs = std::filesystem;

void save_model(const fs::path& folder, train::Problem& problem) {
  write_json(folder / "config.json", problem.describe());
  checkpoint::write_safetensors(folder / "model.safetensors",
                                checkpoint::module_tensors(problem.module()));
}

void save_checkpoint(const fs::path& folder, train::Trainer& trainer,
                     const std::vector<Json>& metrics) {
  create_folders(folder / "checkpoints");
  FolderTransaction transaction(folder / "checkpoints" / concat("step-", trainer.state.step));
  save_model(transaction.path(), trainer.problem());
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
  transaction.commit();
}

void load_checkpoint(const fs::path& path, train::Trainer& trainer, std::vector<Json>& metrics) {
  const fs::path state_file = path / "state.json";
  const std::string where = state_file.string();
  const Json json = read_json(state_file);
  for (const char* key : {"trainer", "problem", "callbacks", "metrics"}) {
    MOEKIT_CHECK_FORMAT(json.is_object() && json.contains(key), where, ": lacks ", key);
  }
  MOEKIT_CHECK_FORMAT(json["metrics"].is_array(), where, ": metrics: wanted a list");
  train::Problem& problem = trainer.problem();
  bind_json(json["trainer"], where, trainer.state);
  problem.load_state(json["problem"], where);
  for (auto* callback : trainer.callbacks()) {
    const auto found = json["callbacks"].find(std::string(callback->name()));
    if (found != json["callbacks"].end()) callback->load_state(*found, where);
  }
  metrics = json["metrics"].get<std::vector<Json>>();
  // First the model's shape: experts may have been taken out on the way.
  problem.restore(read_json(path / "config.json"), (path / "config.json").string());
  checkpoint::load_module_tensors(problem.module(),
                                  *checkpoint::open_tensors(path / "model.safetensors"));
  if (trainer.optimizer() == nullptr) return;
  checkpoint::load_optimizer_tensors(*trainer.optimizer(), problem.module(),
                                     *checkpoint::open_tensors(path / "optimizer.safetensors"));
}

void remove_checkpoints(const fs::path& folder, int64_t keep_steps) {
  auto found = list_checkpoints(folder);
  if (!found.empty()) found.erase(std::prev(found.end()));
  std::error_code error;
  for (const auto& [step, path] : found) {
    if (keep_steps == 0 || step % keep_steps != 0) fs::remove_all(path, error);
  }
}

}  // namespace moekit::run
