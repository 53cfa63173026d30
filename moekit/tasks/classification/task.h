#pragma once

#include "moekit/run/task.h"
#include "moekit/tasks/classification/config.h"

namespace moekit::classification {

/// Classification of images by single networks, mixtures and sparse layers.
const run::Task& task();

/// Trains a recipe in a run folder.
run::RunStatus run_recipe(const Config& config, const run::RunOptions& options);

}  // namespace moekit::classification
