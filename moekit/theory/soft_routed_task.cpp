#include "moekit/theory/soft_routed_task.h"

#include <ATen/Parallel.h>
#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <cmath>

#include "moekit/checkpoint/memory_tensors.h"
#include "moekit/checkpoint/sharded.h"
#include "moekit/core/files.h"
#include "moekit/core/interrupt.h"
#include "moekit/core/progress.h"
#include "moekit/core/random.h"
#include "moekit/tensor/generator.h"

namespace moekit::theory {
namespace fs = std::filesystem;
namespace {

constexpr double kRecovered = 0.9;
constexpr int64_t kSaveEvery = 1000;  // steps; one takes about a millisecond

at::Generator generator_of(const SoftRoutedConfig& config, const char* what, int64_t step = 0) {
  return tensor::make_generator(
      derive_seed(static_cast<uint64_t>(config.seed), what, static_cast<uint64_t>(step)));
}

SoftRoutedConfig bind_soft_routed(const ConfigTree& recipe) {
  SoftRoutedConfig config;
  bind_config(recipe, config);
  return config;
}

void validate_soft_routed(const SoftRoutedConfig& c) {
  MOEKIT_CHECK(c.teacher_pairs >= 1 && 2 * c.teacher_pairs <= c.dim,
               "teacher_pairs must be 1..dim/2 = 1..", c.dim / 2, "; got ", c.teacher_pairs);
  MOEKIT_CHECK(c.student_pairs >= 1, "student_pairs must be at least 1; got ", c.student_pairs);
  MOEKIT_CHECK(c.init == StudentInit::kRandom ||
                   (c.student_pairs == c.teacher_pairs && 2 * c.teacher_pairs < c.dim),
               "init = \"overlap\" wants student_pairs = teacher_pairs < dim/2; got ",
               c.student_pairs, ", ", c.teacher_pairs, " and dim ", c.dim);
  MOEKIT_CHECK(c.step > 0 && c.time >= 0 && c.record_every > 0,
               "step and record_every must be positive, time at least 0; got ", c.step, ", ",
               c.record_every, " and ", c.time);
  MOEKIT_CHECK(c.batch_size >= 1 && c.test_samples >= 1 && c.fine_tune_steps >= 0 &&
                   c.threads >= 1 && c.seed >= 0,
               "batch_size, test_samples and threads must be at least 1, fine_tune_steps and seed "
               "at least 0; got ",
               c.batch_size, ", ", c.test_samples, ", ", c.threads, ", ", c.fine_tune_steps, ", ",
               c.seed);
}

/// Where a run stands, as its checkpoint keeps it.
struct SoftState {
  int64_t step = 0;  ///< of training and fine-tuning together
  std::vector<int64_t> kept;
  std::vector<double> expert_time;  ///< per teacher pair; -1 before it is passed
  std::vector<double> router_time;
  double loss_trained = 0;
  double loss_pruned = 0;
  Json at_end_of_training = Json::object();

  template <typename Field>
  void visit(Field&& field) {
    field("step", step, "");
    field("kept", kept, "");
    field("expert_time", expert_time, "");
    field("router_time", router_time, "");
    field("loss_trained", loss_trained, "");
    field("loss_pruned", loss_pruned, "");
    field("at_end_of_training", at_end_of_training, "");
  }
};

Json order_json(const OrderParameters& order) {
  return {{"rho_v", order.rho_v}, {"rho_w", order.rho_w}, {"student", order.student}};
}

double least(const std::vector<double>& values) {
  return *std::min_element(values.begin(), values.end());
}

class SoftRoutedRun {
 public:
  SoftRoutedRun(SoftRoutedConfig config, const train::RunOptions& options)
      : config_(std::move(config)), options_(options) {
    teacher_ = make_teacher(config_.teacher_pairs, config_.dim, config_.gate,
                            generator_of(config_, "teacher"));
    student_ = config_.init == StudentInit::kOverlap
                   ? make_overlapping_student(teacher_, generator_of(config_, "student"))
                   : make_student(config_.student_pairs, config_.dim, config_.gate,
                                  generator_of(config_, "student"));
    test_ = torch::empty({config_.test_samples, config_.dim})
                .normal_(0, 1, generator_of(config_, "test"));
    train_steps_ = static_cast<int64_t>(std::llround(config_.time / config_.step));
    const auto pairs = static_cast<size_t>(config_.teacher_pairs);
    state_.expert_time.assign(pairs, -1);
    state_.router_time.assign(pairs, -1);
  }

  train::RunStatus run() {
    const auto started = std::chrono::steady_clock::now();
    const bool exists =
        train::claim_run_folder(to_json(config_), config_.seed, config_.threads, options_);
    if (exists && fs::exists(options_.folder / "summary.json")) return train::RunStatus::kFinished;
    if (exists) load();
    const int64_t total = train_steps_ + config_.fine_tune_steps;
    Progress progress(options_.folder.filename().string(), total, options_.quiet);
    progress.start_at(state_.step);
    if (state_.step == 0) record(0);
    if (train_steps_ == 0 && state_.kept.empty()) end_training();
    while (state_.step < total) {
      const double loss = one_step();
      ++state_.step;
      if (state_.step <= train_steps_) watch();
      if (state_.step % record_steps() == 0) record(loss);
      if (state_.step == train_steps_) end_training();
      progress.update(state_.step, fmt::format("loss {:.3g}", loss));
      const bool stop = interrupted() && state_.step < total;
      if (stop || state_.step % kSaveEvery == 0) save();
      if (stop) return train::RunStatus::kInterrupted;
    }
    train::write_metrics(options_.folder, metrics_);
    finish(std::chrono::duration<double>(std::chrono::steady_clock::now() - started).count());
    return train::RunStatus::kFinished;
  }

 private:
  int64_t record_steps() const {
    return std::max<int64_t>(1, std::llround(config_.record_every / config_.step));
  }

  double one_step() {
    const auto x = torch::empty({config_.batch_size, config_.dim})
                       .normal_(0, 1, generator_of(config_, "batch", state_.step));
    const auto gradient = soft_gradient(student_, x, teacher_.forward(x));
    if (!std::isfinite(gradient.loss)) {
      throw NumericError(
          concat("training stopped at step ", state_.step + 1, ": the loss is not finite"));
    }
    if (config_.frozen != Frozen::kRouter) spherical_step(student_.w, gradient.w, config_.step);
    if (config_.frozen != Frozen::kExperts) spherical_step(student_.v, gradient.v, config_.step);
    return gradient.loss;
  }

  /// Notes when overlaps pass the mark.
  void watch() {
    const auto order = order_parameters(student_, teacher_);
    const double now = static_cast<double>(state_.step) * config_.step;
    for (size_t i = 0; i < order.rho_v.size(); ++i) {
      if (state_.expert_time[i] < 0 && order.rho_v[i] > kRecovered) state_.expert_time[i] = now;
      if (state_.router_time[i] < 0 && state_.expert_time[i] >= 0 && order.rho_w[i] > kRecovered) {
        state_.router_time[i] = now;
      }
    }
  }

  void record(double loss) {
    Json line = order_json(order_parameters(student_, teacher_));
    line["step"] = state_.step;
    line["time"] = static_cast<double>(state_.step) * config_.step;
    line["loss"] = state_.step > 0 ? loss : soft_loss(student_, teacher_, test_);
    metrics_.push_back(std::move(line));
  }

  void end_training() {
    const auto order = order_parameters(student_, teacher_);
    state_.at_end_of_training = order_json(order);
    state_.loss_trained = soft_loss(student_, teacher_, test_);
    state_.kept.clear();
    if (config_.prune) {
      state_.kept = prune_cancelling_pairs(student_, test_, config_.teacher_pairs);
      student_ = student_.select(torch::tensor(state_.kept, torch::kLong));
    } else {
      for (int64_t j = 0; j < student_.size(); ++j) state_.kept.push_back(j);
    }
    state_.loss_pruned = soft_loss(student_, teacher_, test_);
  }

  void save() {
    create_folders(options_.folder / "checkpoints");
    FolderTransaction transaction(options_.folder / "checkpoints" / concat("step-", state_.step));
    const checkpoint::MemoryTensors tensors{{"student.w", student_.w}, {"student.v", student_.v}};
    checkpoint::write_safetensors(transaction.path() / "student.safetensors", tensors);
    train::write_json(transaction.path() / "state.json",
                      {{"state", to_json(state_)}, {"metrics", metrics_}});
    transaction.commit();
    auto found = train::list_checkpoints(options_.folder);
    found.erase(std::prev(found.end()));
    std::error_code error;
    for (const auto& [step, path] : found) fs::remove_all(path, error);
  }

  void load() {
    const auto found = train::list_checkpoints(options_.folder);
    if (found.empty()) return;
    const fs::path& folder = found.rbegin()->second;
    const Json json = train::read_json(folder / "state.json");
    MOEKIT_CHECK_FORMAT(json.is_object() && json.contains("state") && json.contains("metrics"),
                        folder.string(), "/state.json: lacks state or metrics");
    ConfigTree tree;
    tree.values = json["state"];
    tree.origins[""] = (folder / "state.json").string();
    bind_config(tree, state_);
    metrics_ = json["metrics"].get<std::vector<Json>>();
    const auto path = folder / "student.safetensors";
    const auto file = checkpoint::open_tensors(path);
    for (auto* rows : {&student_.w, &student_.v}) {
      const char* name = rows == &student_.w ? "student.w" : "student.v";
      *rows = file->read(name).clone();
      MOEKIT_CHECK_FORMAT(rows->dim() == 2 && rows->size(1) == config_.dim &&
                              rows->scalar_type() == torch::kFloat32,
                          path.string(), ": ", name, " must be [m, ", config_.dim, "] float32");
    }
    MOEKIT_CHECK_FORMAT(student_.w.sizes() == student_.v.sizes(), path.string(),
                        ": student.w and student.v differ in size");
  }

  void finish(double seconds) {
    const checkpoint::MemoryTensors tensors{{"student.w", student_.w},
                                            {"student.v", student_.v},
                                            {"teacher.w", teacher_.w},
                                            {"teacher.v", teacher_.v}};
    checkpoint::write_safetensors(options_.folder / "model.safetensors", tensors);
    const auto order = order_parameters(student_, teacher_);
    const auto& trained = state_.at_end_of_training;
    const auto above = [](const std::vector<double>& values) {
      return std::count_if(values.begin(), values.end(), [](double v) { return v > kRecovered; });
    };
    const auto trained_v = trained["rho_v"].get<std::vector<double>>();
    const auto trained_w = trained["rho_w"].get<std::vector<double>>();
    const int64_t pairs = config_.teacher_pairs;
    const bool experts = above(trained_v) == pairs;
    const bool routers = above(trained_w) == pairs;
    Json out = {{"task", config_.task},
                {"seed", config_.seed},
                {"parameters", 2 * config_.student_pairs * config_.dim},
                {"seconds", seconds},
                {"predicted_expert_time", 4.0 / 3.0 * std::sqrt(static_cast<double>(config_.dim))},
                {"zero_loss", soft_loss(zero_student(), teacher_, test_)},
                {"loss_trained", state_.loss_trained},
                {"pairs_kept", static_cast<int64_t>(state_.kept.size())},
                {"loss_pruned", state_.loss_pruned},
                {"loss_final", soft_loss(student_, teacher_, test_)},
                {"trained", trained},
                {"final", order_json(order)},
                {"trained_min_rho_v", least(trained_v)},
                {"trained_min_rho_w", least(trained_w)},
                {"final_min_rho_v", least(order.rho_v)},
                {"final_min_rho_w", least(order.rho_w)},
                {"experts_recovered", experts ? 1 : 0},
                {"routers_recovered", routers ? 1 : 0},
                {"pruned_to_teacher", static_cast<int64_t>(state_.kept.size()) == pairs ? 1 : 0},
                {"gradient_error", gradient_error()}};
    // Times of the pairs that were recovered, the earliest expert and the latest router.
    int64_t recovered = 0;
    int64_t in_order = 0;
    for (size_t i = 0; i < state_.expert_time.size(); ++i) {
      if (state_.expert_time[i] < 0) continue;
      out["expert_time"] = std::min(out.value("expert_time", 1e30), state_.expert_time[i]);
      if (state_.router_time[i] < 0) continue;
      out["router_time"] = std::max(out.value("router_time", 0.0), state_.router_time[i]);
      ++recovered;
      if (state_.expert_time[i] < state_.router_time[i]) ++in_order;
    }
    if (recovered > 0) {
      out["expert_first"] = static_cast<double>(in_order) / static_cast<double>(recovered);
    }
    if (routers && config_.prune && config_.fine_tune_steps > 0) {
      const bool whole = static_cast<int64_t>(state_.kept.size()) == pairs && order.distinct() &&
                         out["loss_final"].get<double>() <= 1e-6;
      out["pipeline_held"] = whole ? 1 : 0;
    }
    train::write_json(options_.folder / "summary.json", out);
  }

  /// A student of no pairs: the zero function.
  SoftRouted zero_student() const {
    const auto none = torch::empty({0, config_.dim});
    return {none, none, SoftGate::kSigmoid};
  }

  /// Largest relative error of the closed-form gradients against central differences, in double on
  /// 1,000 samples.
  double gradient_error() const {
    const auto in_double = [](const SoftRouted& m) {
      return SoftRouted{m.w.to(torch::kFloat64), m.v.to(torch::kFloat64), m.gate};
    };
    auto model = in_double(make_student(config_.student_pairs, config_.dim, config_.gate,
                                        generator_of(config_, "gradient-check")));
    const auto x = test_.slice(0, 0, 1000).to(torch::kFloat64);
    const auto target = in_double(teacher_).forward(x);
    const auto gradient = soft_gradient(model, x, target);
    const auto loss = [&] {
      return 0.5 * (model.forward(x) - target).square().mean().item<double>();
    };
    double worst = 0;
    const std::pair<torch::Tensor, torch::Tensor> parts[] = {{model.w, gradient.w},
                                                             {model.v, gradient.v}};
    for (const auto& [rows, wanted] : parts) {
      const double scale = wanted.abs().max().item<double>();
      for (int64_t k = 0; k < std::min<int64_t>(rows.numel(), 40); ++k) {
        auto* value = rows.data_ptr<double>() + k;
        const double before = *value;
        constexpr double kStep = 1e-5;
        *value = before + kStep;
        const double up = loss();
        *value = before - kStep;
        const double down = loss();
        *value = before;
        const double got = (up - down) / (2 * kStep);
        const double want = wanted.contiguous().data_ptr<double>()[k];
        worst = std::max(worst, std::abs(got - want) / scale);
      }
    }
    return worst;
  }

  SoftRoutedConfig config_;
  train::RunOptions options_;
  SoftRouted teacher_;
  SoftRouted student_;
  torch::Tensor test_;
  int64_t train_steps_ = 0;
  SoftState state_;
  std::vector<Json> metrics_;
};

class SoftRoutedTask : public train::Task {
 public:
  std::string_view name() const override { return "soft_routed"; }
  std::vector<ConfigKey> keys() const override { return config_keys(SoftRoutedConfig{}); }
  void check(const ConfigTree& recipe) const override {
    validate_soft_routed(bind_soft_routed(recipe));
  }
  std::string data_set(const ConfigTree&) const override { return {}; }
  train::RunStatus run(const ConfigTree& recipe, const train::RunOptions& options) const override {
    const auto config = bind_soft_routed(recipe);
    validate_soft_routed(config);
    const torch::NoGradGuard no_grad;
    at::set_num_threads(static_cast<int>(config.threads));
    return SoftRoutedRun(config, options).run();
  }
  Json inspect(const fs::path& run, const std::string&, const std::string& against) const override {
    MOEKIT_CHECK(against.empty(), "inspect: --against compares routers of classifiers");
    return train::read_summary(run);
  }
  report::ModelSection section(const std::string& title, const fs::path& run,
                               const std::string&) const override {
    const Json summary = train::read_summary(run);
    const auto lines = train::read_metrics(run);
    report::ModelSection section;
    section.title = title;
    section.subtitle = fmt::format(
        "seed {}; loss {:.2g} trained, {:.2g} pruned to {} pairs, {:.2g} fine-tuned; run folder {}",
        summary["seed"].get<int64_t>(), summary["loss_trained"].get<double>(),
        summary["loss_pruned"].get<double>(), summary["pairs_kept"].get<int64_t>(),
        summary["loss_final"].get<double>(), run.string());
    section.recipe = read_file(run / "config.toml", 1 << 24);
    report::Chart overlaps{
        "Overlap with the teacher: experts (v) and their routers (w)", "time", {}, {}, false};
    report::Chart loss{"log10 of the loss", "time", {}, {{"loss", {}}}, false};
    for (const auto& line : lines) {
      overlaps.x.push_back(line["time"].get<double>());
      loss.x.push_back(line["time"].get<double>());
      loss.series[0].values.push_back(std::log10(std::max(line["loss"].get<double>(), 1e-16)));
      for (const char* name : {"rho_v", "rho_w"}) {
        for (size_t i = 0; i < line[name].size(); ++i) {
          const std::string label = fmt::format("{} {}", name[4], i + 1);
          auto found = std::find_if(overlaps.series.begin(), overlaps.series.end(),
                                    [&](const auto& s) { return s.name == label; });
          if (found == overlaps.series.end()) {
            overlaps.series.push_back({label, {}});
            found = std::prev(overlaps.series.end());
          }
          found->values.push_back(line[name][i].get<double>());
        }
      }
    }
    section.charts = {std::move(overlaps), std::move(loss)};
    return section;
  }
};

}  // namespace

const train::Task& soft_routed_task() {
  static const SoftRoutedTask kTask;
  return kTask;
}

}  // namespace moekit::theory
