#include "moekit/tasks/continual/problem.h"

#include <torch/torch.h>

#include <algorithm>

#include "moekit/core/random.h"
#include "moekit/core/schema.h"
#include "moekit/tasks/continual/base_network.h"

namespace moekit::continual {
namespace {

constexpr double kDecay = 0.99;  // of counts that are not looked at here

/// Everything that checkpoints have tensors of.
class Learner : public torch::nn::Module {
 public:
  Learner(const std::shared_ptr<StreamModel>& model,
          const std::vector<std::shared_ptr<Protection>>& protections, const Selector& selector,
          const BestState& best) {
    register_module("model", std::static_pointer_cast<torch::nn::Module>(model));
    for (size_t i = 0; i < protections.size(); ++i) {
      register_module(concat("protection", i),
                      std::static_pointer_cast<torch::nn::Module>(protections[i]));
    }
    if (selector) register_module("selector", selector);
    if (best) register_module("best", best);
  }
};

StreamSite site_of(const Config& config, const data::TaskStream& stream) {
  StreamSite site;
  site.num_tasks = static_cast<int64_t>(stream.tasks.size());
  site.side = config.stream.side;
  site.seed = static_cast<uint64_t>(config.seed);
  site.stream = &stream;
  for (const auto& task : stream.tasks) {
    site.task_names.push_back(task.name);
    site.num_classes.push_back(static_cast<int64_t>(task.class_names.size()));
  }
  return site;
}

int64_t count_right(const torch::Tensor& logits, const torch::Tensor& labels) {
  return logits.argmax(1).eq(labels).sum().item<int64_t>();
}

double percent(int64_t part, int64_t whole) {
  return 100 * static_cast<double>(part) / static_cast<double>(whole);
}

}  // namespace

struct ContinualProblem::State {
  int64_t task = 0;  ///< that is being learnt
  std::vector<double> before;
  std::vector<std::vector<double>> rows;
  std::vector<double> validation_before;  ///< none without validation
  std::vector<std::vector<double>> validation_rows;
  /// Of the selector, for each size of batch.
  struct Selected {
    std::vector<double> before;
    std::vector<std::vector<double>> rows;   ///< accuracy [tasks learnt][T]
    std::vector<std::vector<double>> right;  ///< [tasks learnt][T]

    template <typename Field>
    void visit(Field&& field) {
      field("before", before, "");
      field("rows", rows, "");
      field("right", right, "");
    }
  };
  std::vector<Selected> selected;
  double best = -1;                ///< accuracy of the task's best state on validation
  std::vector<int64_t> best_step;  ///< of each task, as far as it is learnt
  std::vector<std::string> layers;
  std::vector<std::vector<std::vector<double>>> used;  ///< [layers][tasks learnt][E] assignments
  Json usage = Json::object();
  Json model = Json::object();

  template <typename Field>
  void visit(Field&& field) {
    field("task", task, "");
    field("before", before, "");
    field("rows", rows, "");
    field("validation_before", validation_before, "");
    field("validation_rows", validation_rows, "");
    field("selected", selected, "");
    field("best", best, "");
    field("best_step", best_step, "");
    field("layers", layers, "");
    field("used", used, "");
    field("usage", usage, "");
    field("model", model, "");
  }
};

ContinualProblem::ContinualProblem(Config config, data::TaskStream stream)
    : config_(std::move(config)),
      stream_(std::move(stream)),
      usage_(kDecay),
      state_(std::make_shared<State>()) {
  validate(config_);
  const StreamSite site = site_of(config_, stream_);
  config_.model->check(site, "model");
  model_ = config_.model->make(site);
  train_inputs_.resize(stream_.tasks.size());
  validation_inputs_.resize(stream_.tasks.size());
  test_inputs_.resize(stream_.tasks.size());
  ProtectionSite protection;
  for (const auto& task : stream_.tasks) protection.train_sizes.push_back(task.train.size());
  protection.num_classes = site.num_classes;
  protection.seed = site.seed;
  protection.model = model_.get();
  protection.examples = [this](int64_t task, const torch::Tensor& index) {
    return examples(task, index);
  };
  config_.protect.check(protection, "protect");
  for (auto& made : config_.protect.make(protection)) {
    if (made) protections_.push_back(std::move(made));
  }
  const int64_t features = model_->selectable_features();
  check_selector(config_.selector, features > 0, "selector");
  if (config_.selector.on) {
    selector_ = Selector(config_.selector, num_tasks(), features, site.seed);
    state_->selected.resize(config_.selector.batches.size());
  }
  if (config_.train.best_every > 0) best_ = BestState(*model_);
  module_ = std::make_shared<Learner>(model_, protections_, selector_, best_);
  for (const auto& layer : nn::routed_layers(*module_)) {
    state_->layers.push_back(layer.name);
    state_->used.emplace_back();
  }
}

train::Stage ContinualProblem::stage(int64_t step) const {
  const int64_t steps = config_.train.steps;
  const int64_t task = std::min(step / steps, num_tasks() - 1);
  const auto& scales = config_.train.lr_scales;
  return {task * steps, steps, scales.empty() ? 1 : scales[static_cast<size_t>(task)]};
}

int64_t ContinualProblem::samples(const train::StepKey& key) const {
  const auto& task = stream_.tasks[static_cast<size_t>(key.step / config_.train.steps)];
  return std::min(config_.train.batch_size, task.train.size());
}

void ContinualProblem::start_training() {
  model_->train();
  model_->enter_task(state_->task);
}

void ContinualProblem::before_step(const train::LoopState& state) {
  if (state.step % config_.train.steps != 0) return;
  state_->task = state.step / config_.train.steps;
  usage_.start_task();
  state_->best = -1;
  for (const auto& protection : protections_) protection->begin_task(*model_, state_->task);
  if (selector_) selector_->learn(state_->task, training_inputs(state_->task));
  model_->enter_task(state_->task);
  if (best_) best_->fit();
}

torch::Tensor ContinualProblem::model_inputs(const torch::Tensor& images) {
  const torch::NoGradGuard no_grad;
  std::vector<torch::Tensor> parts;
  for (int64_t begin = 0; begin < images.size(0); begin += kAtOnce) {
    parts.push_back(model_->inputs(as_input(images.slice(0, begin, begin + kAtOnce))));
  }
  return torch::cat(parts);
}

const torch::Tensor& ContinualProblem::training_inputs(int64_t task) {
  auto& inputs = train_inputs_[static_cast<size_t>(task)];
  if (!inputs.defined()) {
    inputs = model_inputs(stream_.tasks[static_cast<size_t>(task)].train.images);
  }
  return inputs;
}

Examples ContinualProblem::examples(int64_t task, const torch::Tensor& index) {
  const auto& labels = stream_.tasks[static_cast<size_t>(task)].train.labels;
  return {training_inputs(task).index_select(0, index), labels.index_select(0, index)};
}

/// Passes over the task's examples, each in an order of its own; what does not fill a batch is left
/// out of a pass.
torch::Tensor ContinualProblem::batch_index(const train::StepKey& key) {
  const auto seed = static_cast<uint64_t>(config_.seed);
  const int64_t task = key.step / config_.train.steps;
  const int64_t size = samples(key);
  const int64_t all = stream_.tasks[static_cast<size_t>(task)].train.size();
  const int64_t per_pass = all / size;
  const int64_t within = key.step % config_.train.steps;
  const auto pass_seed = derive_seed(derive_seed(seed, "data-order", static_cast<uint64_t>(task)),
                                     "pass", static_cast<uint64_t>(within / per_pass));
  if (!order_.defined() || order_seed_ != pass_seed) {
    order_ = torch::tensor(random_permutation(all, pass_seed), torch::kLong);
    order_seed_ = pass_seed;
  }
  return order_.slice(0, within % per_pass * size, (within % per_pass + 1) * size);
}

train::StepResult ContinualProblem::forward(const train::StepKey& key) {
  StepExamples step;
  step.task = key.step / config_.train.steps;
  step.step = key.step;
  step.index = batch_index(key);
  step.examples = examples(step.task, step.index);
  nn::RouterContext context;
  context.generator = key.generator;
  step.output = model_->forward(step.examples.inputs, step.task, context);
  train::StepResult result;
  result.samples = step.index.size(0);
  result.loss = torch::nn::functional::cross_entropy(step.output.logits, step.examples.labels);
  for (const auto& protection : protections_) {
    const auto more = protection->loss(*model_, step);
    if (more.defined()) result.loss = result.loss + more;
  }
  result.sums = {
      {"wrong",
       step.output.logits.detach().argmax(1).ne(step.examples.labels).sum().item<double>()}};
  for (auto& layer : step.output.layers) {
    result.layers.push_back({"model." + layer.name, layer.routing, layer.samples, layer.dropped});
  }
  usage_.add(result.layers);
  return result;
}

/// Judges the task where it is to be looked at, and ends it in its best state. Of equally good ones
/// the first is kept.
void ContinualProblem::look_for_best(int64_t step_of_task) {
  const bool over = step_of_task == config_.train.steps;
  if (step_of_task % config_.train.best_every != 0 && !over) return;
  const double now = accuracy(Part::kValidation, state_->task, state_->task);
  const auto tasks = static_cast<size_t>(state_->task);
  if (now > state_->best) {
    state_->best = now;
    state_->best_step.resize(tasks + 1);
    state_->best_step.back() = step_of_task;
    best_->keep();
  }
  if (over) best_->give_back();
}

void ContinualProblem::after_step(const train::LoopState& state) {
  const int64_t step_of_task = (state.step - 1) % config_.train.steps + 1;
  if (best_) look_for_best(step_of_task);
  if (step_of_task != config_.train.steps) return;
  std::vector<LayerCounts> counts;
  for (size_t l = 0; l < state_->layers.size(); ++l) {
    const auto& hard =
        usage_.counts(state_->layers[l], merge::UsageWindow::kTask, merge::UsageCount::kHard);
    state_->used[l].push_back(hard);
    counts.push_back({state_->layers[l], hard});
  }
  for (const auto& protection : protections_) protection->end_task(*model_, state_->task);
  model_->end_task(state_->task, counts);
}

const torch::Tensor& ContinualProblem::part_inputs(Part part, int64_t task) {
  const auto at = static_cast<size_t>(task);
  const bool test = part == Part::kTest;
  auto& inputs = test ? test_inputs_[at] : validation_inputs_[at];
  if (!inputs.defined()) {
    inputs = model_inputs((test ? stream_.tasks[at].test : stream_.tasks[at].validation).images);
  }
  return inputs;
}

double ContinualProblem::accuracy(Part part, int64_t task, int64_t by) {
  const torch::NoGradGuard no_grad;
  const bool was_training = model_->is_training();
  model_->eval();
  const auto& images = stream_.tasks[static_cast<size_t>(task)];
  const auto& labels = (part == Part::kTest ? images.test : images.validation).labels;
  const auto& inputs = part_inputs(part, task);
  int64_t right = 0;
  for (int64_t begin = 0; begin < labels.size(0); begin += kAtOnce) {
    const auto logits = model_->logits_by(inputs.slice(0, begin, begin + kAtOnce), task, by);
    right += count_right(logits, labels.slice(0, begin, begin + kAtOnce));
  }
  model_->train(was_training);
  return percent(right, labels.size(0));
}

std::vector<double> ContinualProblem::accuracies(Part part, int64_t learnt) {
  std::vector<double> out;
  for (int64_t t = 0; t < num_tasks(); ++t) {
    out.push_back(accuracy(part, t, model_->answers_for(t, learnt)));
  }
  return out;
}

ContinualProblem::Selected ContinualProblem::selected_accuracies(int64_t learnt, size_t size) {
  const torch::NoGradGuard no_grad;
  const bool was_training = model_->is_training();
  model_->eval();
  Selected out;
  for (int64_t t = 0; t < num_tasks(); ++t) {
    const auto& labels = stream_.tasks[static_cast<size_t>(t)].test.labels;
    const auto& inputs = part_inputs(Part::kTest, t);
    const auto chosen = selector_->choose(inputs, learnt, size);
    int64_t right = 0;
    for (int64_t by = -1; by < learnt; ++by) {
      const auto rows = chosen.eq(by).nonzero().squeeze(1);
      if (rows.numel() == 0) continue;
      right += count_right(model_->logits_by(inputs.index_select(0, rows), t, by),
                           labels.index_select(0, rows));
    }
    out.accuracy.push_back(percent(right, labels.size(0)));
    const auto found = chosen.eq(t < learnt ? t : -1).sum().item<int64_t>();
    out.right.push_back(percent(found, labels.size(0)));
  }
  model_->train(was_training);
  return out;
}

Json ContinualProblem::evaluate(const train::LoopState& state) {
  const int64_t learnt = state.step / config_.train.steps;
  auto row = accuracies(Part::kTest, learnt);
  Json line = {{"step", state.step}, {"accuracy", row}};
  std::vector<double> validation;
  if (config_.stream.validation > 0) {
    validation = accuracies(Part::kValidation, learnt);
    line["validation_accuracy"] = validation;
  }
  for (size_t b = 0; b < state_->selected.size(); ++b) {
    const int64_t batch = config_.selector.batches[b];
    auto found = selected_accuracies(learnt, b);
    line["selected_accuracy"][std::to_string(batch)] = found.accuracy;
    if (learnt == 0) {
      state_->selected[b].before = std::move(found.accuracy);
      continue;
    }
    state_->selected[b].rows.push_back(std::move(found.accuracy));
    state_->selected[b].right.push_back(std::move(found.right));
  }
  if (learnt == 0) {
    state_->before = std::move(row);
    state_->validation_before = std::move(validation);
    return line;
  }
  state_->rows.push_back(std::move(row));
  if (!validation.empty()) state_->validation_rows.push_back(std::move(validation));
  line["epoch"] = state.epoch;
  line["task"] = stream_.tasks[static_cast<size_t>(learnt - 1)].name;
  line["train_loss"] = state.mean_loss();
  line["train_error"] = state.mean_of("wrong");
  line["aux_loss"] = state.aux_sum / static_cast<double>(std::max<int64_t>(state.seen, 1));
  return line;
}

Json continual_figures(const metrics::AccuracyMatrix& accuracy) {
  using metrics::BestOf;
  using metrics::Denominator;
  Json out = {{"average", metrics::average(accuracy)}, {"last", metrics::last(accuracy)}};
  if (accuracy.rows.size() < 2) return out;
  out["transfer"] = metrics::transfer(accuracy);
  out["backward_transfer"] = metrics::backward_transfer(accuracy);
  out["backward_transfer_over_tasks"] = metrics::backward_transfer(accuracy, Denominator::kTasks);
  out["forward_transfer"] = metrics::forward_transfer(accuracy);
  out["forward_transfer_over_tasks"] = metrics::forward_transfer(accuracy, Denominator::kTasks);
  out["forgetting"] = metrics::forgetting(accuracy);
  out["forgetting_over_tasks"] =
      metrics::forgetting(accuracy, BestOf::kSinceLearnt, Denominator::kTasks);
  out["forgetting_best_of_all"] = metrics::forgetting(accuracy, BestOf::kAll);
  return out;
}

/// For each size of batch: how often the task was found at the end, how often images of tasks to
/// come were taken for none, and the figures of the matrix.
Json ContinualProblem::selector_summary() const {
  Json out = Json::object();
  for (size_t b = 0; b < state_->selected.size(); ++b) {
    const auto& own = state_->selected[b];
    Json json = {{"figures", continual_figures({own.rows, own.before})}, {"right", own.right}};
    double found = 0;
    double rejected = 0;
    int64_t to_come = 0;
    for (size_t i = 0; i < own.right.size(); ++i) {
      found += own.right.back()[i];
      for (size_t j = i + 1; j < own.right.size(); ++j, ++to_come) rejected += own.right[i][j];
    }
    json["found"] = found / static_cast<double>(own.right.size());
    if (to_come > 0) json["rejected_to_come"] = rejected / static_cast<double>(to_come);
    out[concat("batch_", config_.selector.batches[b])] = std::move(json);
  }
  return out;
}

Json ContinualProblem::finish(const train::LoopState& /*state*/,
                              const std::filesystem::path& /*folder*/) {
  const metrics::AccuracyMatrix accuracy{state_->rows, state_->before};
  int64_t parameters = 0;
  for (const auto& parameter : model_->parameters()) parameters += parameter.numel();
  Json summary = {{"seed", config_.seed},
                  {"parameters", parameters},
                  {"tasks", config_.stream.tasks},
                  {"accuracy", accuracy.rows},
                  {"accuracy_before", accuracy.before},
                  {"figures", continual_figures(accuracy)},
                  {"used", Json::object()}};
  if (config_.stream.validation > 0) {
    summary["validation"] = {
        {"figures", continual_figures({state_->validation_rows, state_->validation_before})}};
  }
  for (size_t l = 0; l < state_->layers.size(); ++l) {
    auto used = state_->used[l];
    // Of a pool that grew, the experts to come were used by none.
    for (auto& row : used) row.resize(used.back().size(), 0);
    summary["used"][state_->layers[l]] = used;
  }
  if (selector_) summary["selector"] = selector_summary();
  if (best_) summary["best_step"] = state_->best_step;
  summary["model"] = model_->state();
  return summary;
}

Json ContinualProblem::describe() { return {{"recipe", to_json(config_)}}; }

// The shape is the recipe's, which the run was held against.
void ContinualProblem::restore(const Json& /*description*/, const std::string& /*where*/) {}

Json ContinualProblem::state() const {
  Json json = to_json(*state_);
  json["usage"] = usage_.state();
  json["model"] = model_->state();
  return json;
}

void ContinualProblem::load_state(const Json& state, const std::string& where) {
  const std::string own = concat(where, ": problem");
  const auto layers = state_->layers;
  bind_state(state, own, *state_);
  MOEKIT_CHECK_FORMAT(state_->layers == layers && state_->used.size() == layers.size(), own,
                      ".layers are not those of the model");
  check_matrix_state(own);
  usage_.load_state(state_->usage, own + ".usage");
  model_->load_state(state_->model, own + ".model");
  model_->enter_task(state_->task);
  if (best_) best_->fit();
}

void ContinualProblem::check_matrix_state(const std::string& where) const {
  const auto tasks = static_cast<size_t>(num_tasks());
  MOEKIT_CHECK_FORMAT(state_->task < num_tasks(), where, ".task must be below ", tasks, "; got ",
                      state_->task);
  const auto check = [&](const std::vector<std::vector<double>>& rows,
                         const std::vector<double>& before) {
    MOEKIT_CHECK_FORMAT(before.size() == tasks && rows.size() <= tasks, where,
                        ".rows: an accuracy matrix of ", tasks, " tasks has other sizes");
    for (const auto& row : rows) {
      MOEKIT_CHECK_FORMAT(row.size() == tasks, where, ".rows: a row has ", row.size(),
                          " accuracies of ", tasks, " tasks");
    }
  };
  check(state_->rows, state_->before);
  if (config_.stream.validation > 0) {
    check(state_->validation_rows, state_->validation_before);
    MOEKIT_CHECK_FORMAT(state_->validation_rows.size() == state_->rows.size(), where,
                        ".validation_rows: ", state_->validation_rows.size(), " rows beside ",
                        state_->rows.size());
  }
  MOEKIT_CHECK_FORMAT(
      state_->selected.size() == (config_.selector.on ? config_.selector.batches.size() : 0), where,
      ".selected: ", state_->selected.size(), " sizes of batch");
  for (const auto& own : state_->selected) {
    check(own.rows, own.before);
    check(own.right, own.before);
  }
  const auto& best = state_->best_step;
  MOEKIT_CHECK_FORMAT(
      best.size() <= tasks && best.size() + 1 >= (best_ ? state_->rows.size() + 1 : 1) &&
          (best_ || best.empty()),
      where, ".best_step: ", best.size(), " tasks, ", state_->rows.size(), " learnt");
  for (const auto& used : state_->used) {
    MOEKIT_CHECK_FORMAT(used.size() == state_->rows.size(), where, ".used: ", used.size(),
                        " tasks have been counted, ", state_->rows.size(), " learnt");
  }
}

}  // namespace moekit::continual
