#pragma once

#include <filesystem>
#include <map>

#include "moekit/core/config.h"
#include "moekit/data/image_dataset.h"
#include "moekit/models/classifier.h"
#include "moekit/train/config.h"
#include "moekit/train/run_folder.h"

namespace moekit::train {

/// The data a run works on, cut and split as its recipe says.
struct RunData {
  data::ImageSet train;
  data::ImageSet validation;  ///< empty unless data.validation > 0
  data::ImageSet test;
  data::Normalization normalization;
  std::vector<std::string> class_names;
  models::InputShape input;
  std::map<std::string, torch::Tensor> directions;  ///< of generated data, else empty
};

/// @param folder  --data flag, may be empty
/// @throws ArgumentError when a limit, holdout or validation part is larger than the set.
RunData load_run_data(const RunConfig& config, const std::string& folder);
/// The same from a data set that is loaded already.
RunData make_run_data(const RunConfig& config, const data::ImageDataset& dataset);

/// Trains a recipe in a run folder:
///   config.toml      the resolved recipe         run.json     seed, version, thread count, machine
///   metrics.jsonl    one line an epoch           summary.json the final figures
///   checkpoints/step-N/  model, optimizer, state; the newest, and those of train.keep_every
///   model/           config.json and model.safetensors of the finished model
///   trace.safetensors    routing of the test set
/// Each file is written to a temporary name, synced and renamed. With `resume` the run goes on
/// from its newest checkpoint, to the same numbers; a finished run is left as it is.
/// @throws ArgumentError when the folder holds a run and `resume` is off, or holds another recipe.
RunStatus run_recipe(const RunConfig& config, const RunOptions& options);

/// The recipe of a run folder, as resolved.
RunConfig read_run_config(const std::filesystem::path& folder);

/// The network in a folder with config.json and model.safetensors: RUN/model, or a checkpoint.
std::shared_ptr<models::ClassifierImpl> load_model(const std::filesystem::path& folder);

}  // namespace moekit::train
