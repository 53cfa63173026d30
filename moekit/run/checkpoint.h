#pragma once

#include <filesystem>
#include <functional>
#include <string>
#include <vector>

#include "moekit/train/trainer.h"

namespace moekit::run {

/// Writes a model as a folder: config.json, what the problem says of it, model.safetensors, and
/// manifest.json with the files' checksums.
void save_model(const std::filesystem::path& folder, train::Problem& problem);

/// Writes checkpoints/step-N in a run folder: the model, optimizer.safetensors where there is an
/// optimizer, state.json with the loop's, the problem's and the callbacks' state and the metrics so
/// far, and manifest.json. The folder appears whole or not at all.
void save_checkpoint(const std::filesystem::path& folder, train::Trainer& trainer,
                     const std::vector<Json>& metrics);

/// Brings trainer, problem and callbacks to where the newest sound checkpoint of a run folder was
/// written, and leaves them alone where there is no checkpoint. One that is damaged, by its
/// manifest or by itself, is told to `notice` and renamed to step-N.damaged.
/// @throws FormatError naming the file when all are damaged, or one does not fit the run.
void load_newest_checkpoint(const std::filesystem::path& folder, train::Trainer& trainer,
                            std::vector<Json>& metrics,
                            const std::function<void(const std::string& text)>& notice);

/// Removes all checkpoints but the `newest` last and those at multiples of `keep_steps` (0: none).
void remove_checkpoints(const std::filesystem::path& folder, int64_t keep_steps, int64_t newest);

}  // namespace moekit::run
