#include "moekit/models/model_io.h"

#include "moekit/checkpoint/manifest.h"
#include "moekit/checkpoint/module_io.h"
#include "moekit/checkpoint/sharded.h"
#include "moekit/core/error.h"
#include "moekit/core/version.h"
#include "moekit/nn/surgery.h"
#include "moekit/tensor/memory.h"

namespace moekit::models {
namespace fs = std::filesystem;
namespace {

/// The `kept` of a layer's entry, checked against the experts the layer has.
std::vector<int64_t> read_kept(const Json& entry, int64_t num_experts, const std::string& where) {
  const auto kept = entry.find("kept");
  MOEKIT_CHECK_FORMAT(kept != entry.end() && kept->is_array() && !kept->empty(), where,
                      ".kept: wanted a list of experts");
  std::vector<int64_t> index;
  for (const auto& expert : *kept) {
    MOEKIT_CHECK_FORMAT(expert.is_number_integer() && expert.get<int64_t>() >= 0 &&
                            expert.get<int64_t>() < num_experts,
                        where, ".kept: wanted experts 0..", num_experts - 1, "; got ",
                        expert.dump());
    index.push_back(expert.get<int64_t>());
  }
  const auto experts = entry.find("experts");
  MOEKIT_CHECK_FORMAT(experts != entry.end() && experts->is_number_integer() &&
                          experts->get<int64_t>() == static_cast<int64_t>(index.size()),
                      where, ".experts: wanted ", index.size(), ", as many as are kept");
  return index;
}

/// Of a model that was trained: what it computes would be NaN, or worse, numbers.
void check_finite(const torch::nn::Module& model, const fs::path& file) {
  const auto check = [&](const auto& tensors) {
    for (const auto& item : tensors) {
      const torch::Tensor& values = item.value();
      MOEKIT_CHECK_FORMAT(
          !values.is_floating_point() || torch::isfinite(values).all().template item<bool>(),
          file.string(), ": ", item.key(), " holds NaN or infinity");
    }
  };
  check(model.named_parameters());
  check(model.named_buffers());
}

}  // namespace

Json describe_model(ClassifierImpl& model, const Choice<ModelKinds>& config,
                    const InputShape& input) {
  KindSection<ModelKinds> section{config};
  Json out = {{"moekit", std::string(version())},
              {"model", to_json(section)},
              {"input", to_json(input)},
              {"layers", Json::array()}};
  for (const auto& layer : nn::routed_layers(model)) {
    out["layers"].push_back({{"name", layer.name},
                             {"experts", layer.experts->num_experts()},
                             {"kept", layer.module->kept_experts()}});
  }
  return out;
}

std::shared_ptr<ClassifierImpl> build_model(const Json& description, const std::string& where) {
  MOEKIT_CHECK_FORMAT(
      description.is_object() && description.contains("model") && description.contains("input"),
      where, ": lacks model or input");
  KindSection<ModelKinds> config;
  InputShape input;
  bind_json(description["model"], where, config);
  bind_json(description["input"], where, input);
  config->check(input, "model");
  auto model = config->make(input);
  restore_experts(*model, description, where);
  return model;
}

Json read_model_recipe(const fs::path& folder) {
  const fs::path file = folder / "config.json";
  const Json description = read_json(file);
  MOEKIT_CHECK_FORMAT(description.is_object() && description.contains("model"), file.string(),
                      ": lacks model: is of no run of task \"classification\"");
  KindSection<ModelKinds> config;
  bind_json(description["model"], file.string(), config);
  return to_json(config);
}

void restore_experts(ClassifierImpl& model, const Json& description, const std::string& where) {
  MOEKIT_CHECK_FORMAT(description.is_object(), where, ": is no JSON object");
  const auto entries = description.find("layers");
  if (entries == description.end()) return;  // written before layers were
  MOEKIT_CHECK_FORMAT(entries->is_array(), where, ": layers: wanted a list");
  const auto layers = nn::routed_layers(model);
  MOEKIT_CHECK_FORMAT(entries->size() == layers.size(), where, ": layers: the model has ",
                      layers.size(), ", the file ", entries->size());
  for (size_t l = 0; l < layers.size(); ++l) {
    const Json& entry = (*entries)[l];
    const std::string at = concat(where, ": layers[", l, "]");
    MOEKIT_CHECK_FORMAT(entry.is_object() && entry.value("name", Json()) == layers[l].name, at,
                        ".name: wanted \"", layers[l].name, "\"");
    const auto kept = read_kept(entry, layers[l].experts->num_experts(), at);
    if (kept != layers[l].module->kept_experts()) nn::take_experts(layers[l], kept);
  }
}

std::shared_ptr<ClassifierImpl> load_model(const fs::path& folder) {
  const fs::path path = folder / "config.json";
  checkpoint::check_manifest(folder);
  const tensor::MemoryLimit limit;
  std::shared_ptr<ClassifierImpl> model;
  try {
    model = build_model(read_json(path), path.string());
  } catch (const std::exception& error) {
    if (!tensor::is_out_of_memory(error)) throw;
    throw FormatError(concat(path.string(), ": the model would take more memory than is free"));
  }
  load_weights(*model, folder);
  return model;
}

void load_weights(torch::nn::Module& model, const fs::path& folder) {
  const fs::path file = folder / "model.safetensors";
  checkpoint::load_module_tensors(model, *checkpoint::open_tensors(file));
  check_finite(model, file);
  model.eval();
}

}  // namespace moekit::models
