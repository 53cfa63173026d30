#pragma once

#include <filesystem>
#include <memory>

#include "moekit/models/classifier.h"

namespace moekit::models {

/// What config.json says of a network: its recipe's section, the images it is made for and, layer
/// by layer, the live number of experts and which of the recipe's experts they are.
///
///     {"model": {...}, "input": {...},
///      "layers": [{"name": "moe", "experts": 3, "kept": [0, 4, 5]}]}
Json describe_model(ClassifierImpl& model, const Choice<ModelKinds>& config,
                    const InputShape& input);

/// Builds the network that a description is of, with the experts that it has left; weights are
/// still to be loaded. @param where  the file, for messages
/// @throws FormatError when the description breaks its format, ArgumentError for values that are
/// impossible.
std::shared_ptr<ClassifierImpl> build_model(const Json& description, const std::string& where);

/// The section of a recipe that the model in a folder was built from, defaults filled in.
/// @throws IoError, FormatError naming the file
Json read_model_recipe(const std::filesystem::path& folder);

/// Gives the layers of a network that was built from its recipe the experts of a description, as
/// far as they are not theirs already. @throws FormatError naming `where`
void restore_experts(ClassifierImpl& model, const Json& description, const std::string& where);

/// The network in a folder with config.json and model.safetensors, in evaluation mode. Where there
/// is a manifest.json, the files are checked against it.
/// @throws IoError, FormatError
std::shared_ptr<ClassifierImpl> load_model(const std::filesystem::path& folder);

/// The tensors of a folder's model.safetensors into a model of that shape, of any kind, which then
/// is in evaluation mode. @throws IoError, FormatError, also for NaN and infinity
void load_weights(torch::nn::Module& model, const std::filesystem::path& folder);

}  // namespace moekit::models
