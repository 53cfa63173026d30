#include "moekit/tasks/language/task.h"

#include <map>

#include "moekit/run/run.h"
#include "moekit/tasks/language/generate.h"
#include "moekit/tasks/language/problem.h"
#include "moekit/tasks/language/section.h"
#include "moekit/tasks/language/token_folder.h"
#include "moekit/tensor/arithmetic.h"
#include "moekit/tensor/memory.h"

namespace moekit::language {
namespace fs = std::filesystem;
namespace {

run::RunRecipe recipe_of(const Config& config, std::string data) {
  return run::recipe_of(config, std::move(data),
                        run::model_checksums({{"init.dense_from", config.init.dense_from}}));
}

class LanguageTask : public run::Task {
 public:
  std::string_view name() const override { return "language"; }
  std::vector<ConfigKey> keys() const override { return config_keys(Config{}); }
  void check(const ConfigTree& recipe) const override { validate(run::bound<Config>(recipe)); }
  std::string data_set(const ConfigTree& recipe) const override {
    const auto data = run::bound<Config>(recipe).data;
    if (!data.tokens.empty()) return data.tokens;
    if (!data.generated.empty()) return "generated tasks";
    return data.corpus.empty() ? "texts of Debian packages" : data.corpus;
  }
  std::string why_no_data(const ConfigTree& recipe, const std::string&) const override {
    const auto data = run::bound<Config>(recipe).data;
    const auto [at, fresh] = missing_.try_emplace(to_json(data).dump());
    if (!fresh) return at->second;
    try {
      if (data.tokens.empty()) {
        read_texts(data);
      } else {
        read_token_folder(data.tokens, data.validation_share);
      }
    } catch (const Error& error) {
      at->second = error.what();
    }
    return at->second;
  }
  run::RunRecipe resolve(const ConfigTree& recipe, const std::string&) const override {
    const Config config = run::bound<Config>(recipe);
    // The whole study holds its runs against a few corpora.
    std::string& sum = checksums_[to_json(config)["data"].dump()];
    if (sum.empty()) sum = load_text_data(config).checksum;
    return recipe_of(config, sum);
  }
  run::RunStatus run(const ConfigTree& recipe, const run::RunOptions& options) const override {
    const Config config = run::bound<Config>(recipe);
    validate(config);
    tensor::start_arithmetic(config.threads);
    const Json recipe_json = to_json(config);
    auto data = tensor::within_memory("the texts", recipe_json["data"], "data",
                                      [&] { return load_text_data(config); });
    const std::string checksum = data.checksum;
    const auto held = tensor::within_memory("the model", recipe_json["model"], "model", [&] {
      return std::make_unique<LanguageProblem>(config, std::move(data));
    });
    LanguageProblem& problem = *held;
    const nn::LossSite routed{nn::routed_layers(problem.module())};
    config.loss.check(routed, "loss");
    CallbackSite site;
    site.layers = routed.layers;
    site.seed = static_cast<uint64_t>(config.seed);
    site.stage_steps = problem.total_steps();
    config.train.callbacks.check(site, "train");
    auto plan = run::plan_of(config, recipe_of(config, checksum), problem);
    run::train_by(config.train.loop, problem.module(), plan);
    plan.losses = config.loss.make(routed);
    nn::check_aux_only(routed, plan.losses);
    plan.callbacks = config.train.callbacks.make(site);
    return run::run(std::move(plan), options);
  }
  Json inspect(const fs::path& run, const std::string&, const std::string& against) const override {
    MOEKIT_CHECK(against.empty(), "inspect: --against compares routers of classifiers");
    return read_run_summary(run);
  }
  Json tokenize(const ConfigTree& recipe, const fs::path& folder,
                const std::function<bool(int64_t, int64_t)>& progress) const override {
    const auto config = run::bound<Config>(recipe);
    check_values(config, "");
    MOEKIT_CHECK(config.data.tokens.empty(),
                 "data.tokens: names tokens already; wanted a corpus to be cut");
    return write_token_folder(config.data, folder, progress);
  }
  Json generate(const fs::path& run, const text::GenerationOptions& options,
                const std::string& weights,
                const std::function<void(std::string_view)>& sink) const override {
    read_run_summary(run);  // refuses what is no finished run
    return language::generate(run, options, weights, sink);
  }
  report::ModelSection section(const std::string& title, const fs::path& run,
                               const std::string&) const override {
    return make_section(title, run);
  }
  std::vector<run::ReportFigure> report_figures() const override {
    return {{"loss", "/test/loss", "Loss: nats a token, on judged texts.", "nat", "",
             "the loss is lowest with"},
            {"MaxVio", "/test/max_violation",
             "MaxVio: how far the fullest expert is above the mean, in the worst mixture."}};
  }
  std::vector<study::Figure> study_figures() const override {
    return {{"loss", "loss, nats a token", "/test/loss"},
            {"max_violation", "MaxVio", "/test/max_violation"}};
  }

 private:
  mutable std::map<std::string, std::string> checksums_;  // by the section `data`
  mutable std::map<std::string, std::string> missing_;    // by corpus, why it cannot be read
};

}  // namespace

const run::Task& task() {
  static const LanguageTask kTask;
  return kTask;
}

}  // namespace moekit::language
