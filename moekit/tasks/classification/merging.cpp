#include "moekit/tasks/classification/merging.h"

#include <chrono>
#include <limits>

#include "moekit/checkpoint/manifest.h"
#include "moekit/checkpoint/module_io.h"
#include "moekit/checkpoint/sharded.h"
#include "moekit/compress/grouping.h"
#include "moekit/compress/layer_error.h"
#include "moekit/compress/merge_groups.h"
#include "moekit/compress/similarity.h"
#include "moekit/core/files.h"
#include "moekit/core/random.h"
#include "moekit/merge/merge_experts.h"
#include "moekit/models/model_io.h"
#include "moekit/nn/single_experts.h"
#include "moekit/run/run_folder.h"
#include "moekit/tasks/classification/evaluate.h"
#include "moekit/tasks/classification/judge.h"
#include "moekit/tasks/classification/run_data.h"
#include "moekit/tasks/classification/run_files.h"
#include "moekit/tensor/tensor_json.h"

namespace moekit::classification {
namespace fs = std::filesystem;
namespace {

constexpr int64_t kCalibrationBatch = 500;
constexpr int64_t kCalibrationSamples = 2000;  // where the user names no number
constexpr int64_t kErrorSamples = 2000;        // of the test set, for the layers' errors
constexpr int64_t kLeastSamples = 4;

using Layers = std::vector<nn::RoutedLayer>;
using Statistics = std::vector<compress::LayerStatistics>;

/// Refuses what cannot be done before anything is computed.
void check_layers(const Layers& layers, const compress::MergeOptions& options,
                  const fs::path& run) {
  const bool mixture = std::any_of(layers.begin(), layers.end(),
                                   [](const auto& layer) { return layer.router != nullptr; });
  MOEKIT_CHECK(mixture, run.string(), ": a single model has no experts to merge");
  for (const auto& layer : layers) {
    const int64_t experts = layer.experts->num_experts();
    const int64_t top_k = layer.router == nullptr ? 0 : layer.router->traits().top_k;
    MOEKIT_CHECK(options.keep < experts, run.string(), ": --keep must be below ", experts,
                 ", as many experts as layer \"", layer.name, "\" has; got ", options.keep);
    MOEKIT_CHECK(options.keep >= top_k, run.string(), ": --keep must be at least ", top_k,
                 ", as many experts as layer \"", layer.name, "\" gives each token; got ",
                 options.keep);
    if (layer.router == nullptr) continue;
    MOEKIT_CHECK(layer.router->traits().learns, run.string(), ": the router of layer \"",
                 layer.name,
                 "\" learns nothing: its recipe says who goes where, and would have "
                 "to say it anew for fewer experts");
    const std::string why_not_single = nn::why_not_single(*layer.experts);
    MOEKIT_CHECK(why_not_single.empty(), run.string(), ": layer \"", layer.name,
                 "\": ", why_not_single);
    const std::string why_not = merge::why_not_joined(layer, {.align = options.align});
    MOEKIT_CHECK(why_not.empty(), run.string(), ": --align: ", why_not);
    MOEKIT_CHECK(options.router == compress::RouterRepair::kRepresentative ||
                     !layer.router->expert_rows().empty(),
                 run.string(), ": --router mean: the router of layer \"", layer.name,
                 "\" has no rows of its experts");
  }
}

/// Refuses a run whose recipe was changed by hand: the model is another's then.
void check_recipe_is_the_models(const fs::path& run, const Config& config) {
  KindSection<models::ModelKinds> of_recipe{config.model.choice};
  const std::string differ =
      changes_refused(models::read_model_recipe(run / "model"), to_json(of_recipe), {});
  MOEKIT_CHECK_FORMAT(differ.empty(), (run / "config.toml").string(),
                      " is not the recipe of model/config.json: ", differ);
}

/// As many of a set as are asked for. @param set  "training", for the message
int64_t sample_count(const compress::MergeOptions& options, int64_t available, const char* set) {
  if (options.samples == 0) return std::min(kCalibrationSamples, available);
  MOEKIT_CHECK(options.samples <= available, "merge: --samples must be at most ", available,
               ", as many ", set, " images as the run has; got ", options.samples);
  // Fewer have no unbiased estimate of CKA, and one input no direction of logits.
  MOEKIT_CHECK(options.samples >= kLeastSamples || options.method == compress::Similarity::kWeights,
               "merge: --samples must be at least ", kLeastSamples, " with --method ",
               enum_name(options.method), "; got ", options.samples);
  return options.samples;
}

Statistics observe(models::ClassifierImpl& model, const data::ImageSet& set,
                   const data::Normalization& normalization) {
  const torch::NoGradGuard no_grad;
  compress::Calibrator calibrator;
  for (int64_t begin = 0; begin < set.size(); begin += kCalibrationBatch) {
    const auto part = set.slice(begin, std::min(begin + kCalibrationBatch, set.size()));
    nn::RouterContext context;
    context.task_id = part.labels;
    const auto output = model.forward(data::normalize(part.images, normalization), context);
    calibrator.add(output.layers, context);
  }
  return calibrator.finish();
}

std::vector<torch::Tensor> outputs_of(const Layers& layers, const Statistics& statistics) {
  std::vector<torch::Tensor> outputs;
  for (size_t l = 0; l < layers.size(); ++l) {
    outputs.push_back(compress::layer_outputs(layers[l], statistics[l]));
  }
  return outputs;
}

using Plan = std::vector<std::vector<compress::GroupPlan>>;  // by layer and group

/// Each group's representative alone, with what the router had for it: the same experts are gone,
/// and nothing was merged.
Plan representatives_of(Plan plan) {
  for (auto& groups : plan) {
    for (auto& group : groups) group = {{group.experts.front()}, {1}};
  }
  return plan;
}

/// A model that has what is left of the run's experts, and how its layers' outputs differ.
struct Edited {
  std::shared_ptr<models::ClassifierImpl> model;
  std::vector<double> errors;  // by layer
};

Edited edit(const fs::path& run, const Plan& plan, const compress::MergeOptions& options,
            const Statistics& test, const std::vector<torch::Tensor>& before) {
  Edited out{models::load_model(run / "model"), {}};
  const auto layers = nn::routed_layers(*out.model);
  for (size_t l = 0; l < layers.size(); ++l) {
    compress::merge_groups(layers[l], plan[l], options.align, options.router);
  }
  for (size_t l = 0; l < layers.size(); ++l) {
    const bool known = before[l].defined();
    out.errors.push_back(
        known ? compress::relative_error(before[l], compress::layer_outputs(layers[l], test[l]))
              : std::numeric_limits<double>::quiet_NaN());
  }
  return out;
}

Json groups_json(const std::vector<compress::GroupPlan>& groups) {
  Json out = Json::array();
  for (const auto& group : groups) {
    out.push_back({{"experts", group.experts}, {"weights", group.weights}});
  }
  return out;
}

/// Bytes of a model's tensors in its file.
int64_t bytes_of(const fs::path& model) {
  return static_cast<int64_t>(fs::file_size(model / "model.safetensors"));
}

/// Writes the merged model's own run folder: that of the run, with the model exchanged.
void write_run(const fs::path& folder, const fs::path& run, const Config& config,
               const RunData& data, models::ClassifierImpl& model, const Json& of_run,
               const Json& last_line, double seconds, const Judged& judged, Json& report) {
  create_folders(folder / "model");
  write_json(folder / "model" / "config.json",
             models::describe_model(model, config.model.choice, data.input));
  checkpoint::write_safetensors(folder / "model" / "model.safetensors",
                                checkpoint::module_tensors(model));
  checkpoint::write_manifest(folder / "model");
  report["after"]["bytes"] = bytes_of(folder / "model");
  write_file_atomic(folder / "config.toml", read_file(run / "config.toml"));
  Json summary = Json::object();
  for (const char* key : {"recipe", "seed", "epochs", "stopped_early"}) summary[key] = of_run[key];
  summary.update(judged.summary);
  summary["seconds"] = seconds;
  summary["merged"] = report["options"];
  // How the other model was trained is not this one's history: one line, of what it is now.
  Json line = {{"epoch", of_run["epochs"]},
               {"step", last_line["step"]},
               {"train_loss", summary["train"]["loss"]},
               {"aux_loss", nullptr},
               {"train_error", summary["train"]["error"]},
               {"test", summary["test"]}};
  if (summary.contains("validation")) line["validation_loss"] = summary["validation"]["loss"];
  if (summary.contains("alignment")) line["alignment"] = summary["alignment"];
  run::write_metrics(folder, {line});
  Json facts = read_json(run / "run.json");
  facts["made_from"] = {{"run", fs::absolute(run).lexically_normal().string()}, {"by", "merge"}};
  write_json(folder / "run.json", facts);
  metrics::write_trace(folder / "trace.safetensors", judged.trace);
  write_json(folder / "merge.json", report);
  write_json(folder / "summary.json", summary);
}

}  // namespace

Json merge_run(const fs::path& run, const std::string& data_folder,
               const compress::MergeOptions& options, const fs::path& out) {
  const auto started = std::chrono::steady_clock::now();
  const Json of_run =
      read_run_summary(run);  // refuses what is no finished run before any data is read
  const Config config = read_config(run);
  const auto model = models::load_model(run / "model");
  check_recipe_is_the_models(run, config);
  const auto metrics = read_run_metrics(run);
  const Layers layers = nn::routed_layers(*model);
  check_layers(layers, options, run);
  const RunData data = load_run_data(config, data_folder);
  const int64_t samples = sample_count(options, data.train.size(), "training");
  const auto drawn = torch::tensor(
      random_permutation(data.train.size(),
                         derive_seed(static_cast<uint64_t>(options.seed), "calibration")),
      torch::kLong);
  const auto statistics =
      observe(*model, data.train.select(drawn.slice(0, 0, samples)), data.normalization);
  const int64_t tested = std::min(kErrorSamples, data.test.size());
  const auto test = observe(*model, data.test.slice(0, tested), data.normalization);
  const auto before = outputs_of(layers, test);

  Json report = {{"run", run.string()}, {"options", to_json(options)}, {"samples", samples}};
  Plan plan;
  for (size_t l = 0; l < layers.size(); ++l) {
    const auto similarity =
        compress::expert_similarity(options.method, layers[l], statistics[l], options.align);
    plan.push_back(
        compress::plan_groups(compress::group_experts(similarity, options.keep, options.linkage),
                              statistics[l], options.weights));
    report["layers"].push_back({{"name", layers[l].name},
                                {"experts", layers[l].experts->num_experts()},
                                {"used", statistics[l].hard},
                                {"similarity", tensor::to_json_rows(similarity)},
                                {"groups", groups_json(plan.back())}});
  }
  const auto judged = [&](models::ClassifierImpl& which) {
    return evaluation_summary(evaluate(which, data.test, data.normalization), which,
                              data.input.num_classes);
  };
  report["before"] = {{"test", judged(*model)},
                      {"parameters", of_run["parameters"]},
                      {"bytes", bytes_of(run / "model")}};
  const auto merged = edit(run, plan, options, test, before);
  auto plain = options;
  plain.align = false;
  plain.router = compress::RouterRepair::kRepresentative;
  const auto alone = edit(run, representatives_of(plan), plain, test, before);
  for (size_t l = 0; l < layers.size(); ++l) {
    report["layers"][l]["output_error"] = merged.errors[l];
    report["layers"][l]["output_error_representatives"] = alone.errors[l];
  }
  report["representatives_alone"] = {{"test", judged(*alone.model)}};
  const Judged of_merged = judge(*merged.model, data);
  report["after"] = {{"test", of_merged.summary["test"]},
                     {"parameters", of_merged.summary["parameters"]}};
  const double seconds =
      std::chrono::duration<double>(std::chrono::steady_clock::now() - started).count();
  NewFolder folder(out);  // now, so that an interrupted command leaves nothing
  write_run(folder.path(), run, config, data, *merged.model, of_run,
            metrics.empty() ? Json({{"step", 0}}) : metrics.back(), seconds, of_merged, report);
  folder.commit();
  return report;
}

}  // namespace moekit::classification
