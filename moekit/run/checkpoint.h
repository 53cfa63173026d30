#pragma once

#include <filesystem>
#include <vector>

#include "moekit/core/config.h"
#include "moekit/train/trainer.h"

namespace moekit::run {

/// Writes a model as a folder: config.json, what the problem says of it, and model.safetensors.
void save_model(const std::filesystem::path& folder, train::Problem& problem);

/// Writes checkpoints/step-N in a run folder: the model, optimizer.safetensors where there is an
/// optimizer, and state.json with the loop's, the problem's and the callbacks' state and the
/// metrics so far. The folder appears whole or not at all.
void save_checkpoint(const std::filesystem::path& folder, train::Trainer& trainer,
                     const std::vector<Json>& metrics);

/// Brings trainer, problem and callbacks to where a checkpoint was written.
/// @throws FormatError or ArgumentError naming the file when it does not fit.
void load_checkpoint(const std::filesystem::path& checkpoint, train::Trainer& trainer,
                     std::vector<Json>& metrics);

/// Removes all checkpoints but the newest and those at multiples of `keep_steps` (0: none).
void remove_checkpoints(const std::filesystem::path& folder, int64_t keep_steps);

}  // namespace moekit::run
