#include "moekit/train/run.h"

#include <ATen/Parallel.h>

#include <chrono>

#include "moekit/checkpoint/module_io.h"
#include "moekit/checkpoint/optimizer_io.h"
#include "moekit/checkpoint/sharded.h"
#include "moekit/core/files.h"
#include "moekit/core/interrupt.h"
#include "moekit/core/progress.h"
#include "moekit/core/random.h"
#include "moekit/core/version.h"
#include "moekit/metrics/alignment.h"
#include "moekit/tensor/tensor_json.h"
#include "moekit/train/evaluate.h"
#include "moekit/train/trainer.h"

namespace moekit::train {
namespace fs = std::filesystem;
namespace {

/// Removes all checkpoints but the newest and the kept ones: those of every n-th epoch.
void remove_checkpoints(const fs::path& folder, const Trainer& trainer) {
  const int64_t every = trainer.config().train.keep_every * trainer.steps_per_epoch();
  auto found = list_checkpoints(folder);
  if (!found.empty()) found.erase(std::prev(found.end()));
  std::error_code error;
  for (const auto& [step, path] : found) {
    if (every == 0 || step % every != 0) fs::remove_all(path, error);
  }
}

void save_model(const fs::path& folder, const models::ClassifierImpl& model,
                const RunConfig& config, const models::InputShape& input) {
  write_json(folder / "config.json", {{"moekit", std::string(version())},
                                      {"model", to_json(config.model)},
                                      {"input", to_json(input)}});
  checkpoint::write_safetensors(folder / "model.safetensors", checkpoint::module_tensors(model));
}

void save_checkpoint(const fs::path& folder, Trainer& trainer, const models::InputShape& input,
                     const std::vector<Json>& metrics) {
  create_folders(folder / "checkpoints");
  const fs::path target = folder / "checkpoints" / concat("step-", trainer.state.step);
  FolderTransaction transaction(target);
  save_model(transaction.path(), trainer.model(), trainer.config(), input);
  checkpoint::write_safetensors(
      transaction.path() / "optimizer.safetensors",
      checkpoint::optimizer_tensors(trainer.optimizer(), trainer.model()));
  write_json(transaction.path() / "state.json",
             {{"trainer", to_json(trainer.state)}, {"metrics", metrics}});
  transaction.commit();
  remove_checkpoints(folder, trainer);
}

void load_checkpoint(const fs::path& path, Trainer& trainer, std::vector<Json>& metrics) {
  const fs::path model = path / "model.safetensors";
  checkpoint::load_module_tensors(trainer.model(), *checkpoint::open_tensors(model));
  const fs::path optimizer = path / "optimizer.safetensors";
  checkpoint::load_optimizer_tensors(trainer.optimizer(), trainer.model(),
                                     *checkpoint::open_tensors(optimizer));
  const fs::path state = path / "state.json";
  const Json json = read_json(state);
  MOEKIT_CHECK_FORMAT(json.is_object() && json.contains("trainer") && json.contains("metrics"),
                      state.string(), ": lacks trainer or metrics");
  ConfigTree tree;
  tree.values = json["trainer"];
  tree.origins[""] = state.string();
  bind_config(tree, trainer.state);
  metrics = json["metrics"].get<std::vector<Json>>();
}

/// Copies what `init` asks for out of other runs and freezes what it names.
nn::FrozenModules initialize(models::ClassifierImpl& model, const RunConfig& config) {
  const auto seed = static_cast<uint64_t>(config.seed);
  const auto experts_seed =
      config.init.experts_seed > 0 ? static_cast<uint64_t>(config.init.experts_seed) : seed;
  model.reset_parameters(derive_seed(seed, "router-init"),
                         derive_seed(experts_seed, "experts-init"));
  const auto copy = [&model](const char* key, const std::string& run,
                             const std::shared_ptr<torch::nn::Module>& into) {
    if (run.empty()) return;
    MOEKIT_CHECK(into != nullptr, key, ": the model has no such part");
    std::string prefix;  // the part's name in this model, and in the other
    for (const auto& item : model.named_modules()) {
      if (item.value() == into) prefix = item.key() + ".";
    }
    const fs::path file = fs::path(run) / "model" / "model.safetensors";
    checkpoint::load_submodule_tensors(*into, *checkpoint::open_tensors(file), prefix);
  };
  const std::shared_ptr<torch::nn::Module> router = model.router();
  const std::shared_ptr<torch::nn::Module> experts = model.experts();
  copy("init.experts_from", config.init.experts_from, experts);
  copy("init.router_from", config.init.router_from, router);
  if (!config.init.trunk_from.empty()) {
    const auto children =
        router ? router->named_children()
               : torch::OrderedDict<std::string, std::shared_ptr<torch::nn::Module>>();
    const auto* trunk = children.find("trunk");
    MOEKIT_CHECK(trunk != nullptr, "init.trunk_from: the model's router has no trunk");
    copy("init.trunk_from", config.init.trunk_from, *trunk);
  }
  nn::FrozenModules frozen;
  if (config.init.freeze_router) {
    MOEKIT_CHECK(router != nullptr, "init.freeze_router: the model has no router");
    frozen.add(router);
  }
  if (config.init.freeze_experts) frozen.add(experts);
  return frozen;
}

void check_limit(const char* key, int64_t wanted, int64_t available) {
  MOEKIT_CHECK(wanted <= available, key, " = ", wanted, ", but there are ", available, " images");
}

/// How experts and router point along the true directions of generated data, by name.
Json alignments(const models::ClassifierImpl& model, const RunData& data,
                const metrics::RoutingTrace& trace) {
  Json out = Json::object();
  const auto experts = model.experts() ? model.experts()->directions() : torch::Tensor();
  const auto router = model.router() ? model.router()->directions() : torch::Tensor();
  for (const auto& [name, vectors] : data.directions) {
    const auto fits = [&size = vectors](const torch::Tensor& weights) {
      return weights.defined() && weights.size(-1) == size.size(1);
    };
    if (fits(experts))
      out["experts"][name] = tensor::to_json_rows(metrics::alignment(experts, vectors));
    if (fits(router))
      out["router"][name] = tensor::to_json_rows(metrics::alignment(router, vectors));
  }
  if (out.contains("router") && data.directions.count("label") == 1 &&
      data.directions.count("centre") == 1 && !trace.layers.empty()) {
    const auto centre = metrics::alignment(router, data.directions.at("centre"));
    const auto label = metrics::alignment(router, data.directions.at("label"));
    const auto& layer = trace.layers.front();
    const auto chosen = layer.probs.argmax(1);
    const auto used = torch::bincount(chosen, {}, layer.num_experts()) >
                      0.02 * static_cast<double>(chosen.size(0));
    out["centre_over_label"] = metrics::alignment_ratio(centre, label, used);
    out["centres_covered"] = metrics::directions_covered(centre, used);
    out["experts_in_use"] = used.sum().item<int64_t>();
  }
  return out;
}

Json epoch_line(Trainer& trainer, const Evaluation& test, const RunData& data) {
  const auto& state = trainer.state;
  const auto seen = static_cast<double>(std::max<int64_t>(state.seen, 1));
  Json line = {{"epoch", state.epoch},
               {"step", state.step},
               {"train_loss", state.loss_sum / seen},
               {"aux_loss", state.aux_sum / seen},
               {"train_error", static_cast<double>(state.wrong) / seen}};
  line["test"] = evaluation_summary(test, trainer.config().model, data.input.num_classes);
  if (auto aligned = alignments(trainer.model(), data, test.trace); !aligned.empty()) {
    line["alignment"] = std::move(aligned);
  }
  return line;
}

}  // namespace

RunData load_run_data(const RunConfig& config, const std::string& folder) {
  const data::DatasetSite site{folder, static_cast<uint64_t>(config.seed)};
  return make_run_data(config, *data::load_images(config.data.set, site));
}

RunData make_run_data(const RunConfig& config, const data::ImageDataset& dataset) {
  RunData out;
  out.train = dataset.train;
  out.test = dataset.test;
  out.normalization = dataset.normalization;
  out.class_names = dataset.class_names;
  out.directions = dataset.directions;
  const DataConfig& data = config.data;
  if (data.train_limit > 0) {
    check_limit("data.train_limit", data.train_limit, out.train.size());
    out.train = out.train.slice(0, data.train_limit);
  }
  if (data.test_limit > 0) {
    check_limit("data.test_limit", data.test_limit, out.test.size());
    out.test = out.test.slice(0, data.test_limit);
  }
  const auto set_apart = [&](const char* key, int64_t count) {
    check_limit(key, count + 1, out.train.size());
    const auto order = torch::tensor(
        random_permutation(out.train.size(), derive_seed(static_cast<uint64_t>(config.seed), key)),
        torch::kLong);
    auto part = out.train.select(order.slice(0, 0, count));
    out.train = out.train.select(order.slice(0, count));
    return part;
  };
  if (data.holdout > 0) out.test = set_apart("data.holdout", data.holdout);
  if (data.validation > 0) out.validation = set_apart("data.validation", data.validation);
  const auto& images = out.train.images;
  out.input = {images.size(1), images.size(2), images.size(3),
               static_cast<int64_t>(out.class_names.size())};
  return out;
}

RunStatus run_recipe(const RunConfig& config, const RunOptions& options) {
  validate(config);
  const auto started = std::chrono::steady_clock::now();
  at::set_num_threads(static_cast<int>(config.threads));
  const RunData data = load_run_data(config, options.data_folder);
  auto model = models::make_classifier(config.model, data.input);
  auto frozen = initialize(*model, config);
  Trainer trainer(config, model, data.train, data.normalization, std::move(frozen));
  const bool exists = claim_run_folder(to_json(config), config.seed, config.threads, options);
  if (exists && fs::exists(options.folder / "summary.json")) return RunStatus::kFinished;
  std::vector<Json> metrics;
  if (exists) {
    const auto checkpoints = list_checkpoints(options.folder);
    if (!checkpoints.empty()) load_checkpoint(checkpoints.rbegin()->second, trainer, metrics);
  }
  Progress progress(options.folder.filename().string(), trainer.total_steps(), options.quiet);
  progress.start_at(trainer.state.step);
  bool stopped = false;
  // Between epochs the counters of the finished one are over.
  const auto save_between_epochs = [&](Trainer& t) {
    const auto at_end = t.state;
    t.state.batch = t.state.seen = t.state.wrong = 0;
    t.state.loss_sum = t.state.aux_sum = 0;
    save_checkpoint(options.folder, t, data.input, metrics);
    t.state = at_end;
  };
  TrainerHooks hooks;
  hooks.on_step = [&](Trainer& t, double loss) {
    progress.update(t.state.step, concat("loss ", std::round(loss * 1e4) / 1e4));
    const int64_t every = config.train.checkpoint_steps;
    const bool last_of_epoch = t.state.batch == t.steps_per_epoch();
    if (interrupted()) {
      stopped = !last_of_epoch;  // at the end of an epoch on_epoch saves and stops
    }
    if ((stopped || (every > 0 && t.state.step % every == 0)) && !last_of_epoch) {
      save_checkpoint(options.folder, t, data.input, metrics);
    }
    return !stopped;
  };
  hooks.on_epoch = [&](Trainer& t) {
    const bool last = t.state.epoch == config.train.epochs || t.state.stopped_early;
    stopped = interrupted() && !last;
    if (t.state.epoch % config.train.evaluate_every != 0 && !last) {
      if (stopped) save_between_epochs(t);
      return !stopped;
    }
    const auto test = evaluate(t.model(), data.test, data.normalization);
    metrics.push_back(epoch_line(t, test, data));
    if (data.validation.size() > 0) {
      const double loss = evaluate(t.model(), data.validation, data.normalization).loss;
      metrics.back()["validation_loss"] = loss;
      if (metrics.size() == 1 || loss < t.state.best_validation) {
        t.state.best_validation = loss;
        t.state.epochs_without_gain = 0;
      } else {
        ++t.state.epochs_without_gain;
      }
      if (config.train.patience > 0 && t.state.epochs_without_gain >= config.train.patience) {
        t.state.stopped_early = true;
      }
    }
    save_between_epochs(t);
    write_metrics(options.folder, metrics);
    return !stopped;
  };
  trainer.run(hooks);
  write_metrics(options.folder, metrics);
  if (stopped) return RunStatus::kInterrupted;

  FolderTransaction transaction(options.folder / "model");
  save_model(transaction.path(), *model, config, data.input);
  transaction.commit();
  const auto test = evaluate(*model, data.test, data.normalization, {.keep_outputs = true});
  metrics::write_trace(options.folder / "trace.safetensors", test.trace);
  Json summary = Json::object();
  summary["recipe"] = std::string(config.data.set.name());
  summary["seed"] = config.seed;
  summary["epochs"] = trainer.state.epoch;
  summary["stopped_early"] = trainer.state.stopped_early;
  int64_t parameters = 0;
  for (const auto& parameter : model->parameters()) parameters += parameter.numel();
  summary["parameters"] = parameters;
  summary["test"] = evaluation_summary(test, config.model, data.input.num_classes);
  const auto train = evaluate(*model, data.train, data.normalization);
  summary["train"] = {{"error", train.error}, {"loss", train.loss}};
  if (config.train.noisy_test) {
    const EvaluateOptions noisy{.noise_seed = static_cast<uint64_t>(config.seed)};
    for (const auto& [name, set] :
         {std::pair("noisy_test", data.test), {"noisy_train", data.train}}) {
      summary[name] = evaluation_summary(evaluate(*model, set, data.normalization, noisy),
                                         config.model, data.input.num_classes);
    }
  }
  if (auto aligned = alignments(*model, data, test.trace); !aligned.empty()) {
    summary["alignment"] = std::move(aligned);
  }
  summary["seconds"] =
      std::chrono::duration<double>(std::chrono::steady_clock::now() - started).count();
  write_json(options.folder / "summary.json", summary);
  return RunStatus::kFinished;
}

RunConfig read_run_config(const fs::path& folder) {
  RunConfig config;
  bind_config(read_toml(folder / "config.toml"), config);
  return config;
}

std::shared_ptr<models::ClassifierImpl> load_model(const fs::path& folder) {
  const fs::path path = folder / "config.json";
  const Json json = read_json(path);
  MOEKIT_CHECK_FORMAT(json.is_object() && json.contains("model") && json.contains("input"),
                      path.string(), ": lacks model or input");
  ConfigTree model_tree;
  model_tree.values = json["model"];
  ConfigTree input_tree;
  input_tree.values = json["input"];
  models::ModelConfig config;
  models::InputShape input;
  bind_config(model_tree, config);
  bind_config(input_tree, input);
  auto model = models::make_classifier(config, input);
  const fs::path weights = folder / "model.safetensors";
  checkpoint::load_module_tensors(*model, *checkpoint::open_tensors(weights));
  model->eval();
  return model;
}

}  // namespace moekit::train
