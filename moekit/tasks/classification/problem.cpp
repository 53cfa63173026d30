#include "moekit/tasks/classification/problem.h"

#include "moekit/core/random.h"
#include "moekit/models/model_io.h"
#include "moekit/tasks/classification/alignments.h"
#include "moekit/tasks/classification/augment.h"
#include "moekit/tasks/classification/initialize.h"
#include "moekit/tasks/classification/judge.h"

namespace moekit::classification {
namespace {

std::shared_ptr<models::ClassifierImpl> build(const Config& config, const RunData& data) {
  validate(config);
  config.model->check(data.input, "model");
  return config.model->make(data.input);
}

}  // namespace

ClassificationProblem::ClassificationProblem(Config config, RunData data)
    : config_(std::move(config)),
      data_(std::move(data)),
      model_(build(config_, data_)),
      frozen_(initialize(*model_, config_)) {
  MOEKIT_CHECK(data_.train.size() > 0, "data: the training set is empty");
  MOEKIT_CHECK(!config_.data.augment || !data_.train.images.is_floating_point(),
               "data.augment: flips and crops are for images; data set ", config_.data.set.name(),
               " holds numbers");
}

int64_t ClassificationProblem::steps_per_epoch() const {
  const int64_t size = config_.train.loop.batch_size;
  return (data_.train.size() + size - 1) / size;
}

int64_t ClassificationProblem::total_steps() const {
  return steps_per_epoch() * config_.train.loop.epochs;
}

int64_t ClassificationProblem::samples(const train::StepKey& key) const {
  const int64_t size = config_.train.loop.batch_size;
  return std::min(size, data_.train.size() - key.batch * size);
}

void ClassificationProblem::start_training() {
  model_->train();
  frozen_.apply();
}

data::ImageSet ClassificationProblem::batch(const train::StepKey& key) {
  const int64_t count = samples(key);
  const int64_t first = key.batch * config_.train.loop.batch_size;
  const int64_t begin = first + count * key.part / key.parts;
  const int64_t end = first + count * (key.part + 1) / key.parts;
  if (steps_per_epoch() == 1) {  // one full batch needs no order
    return key.parts == 1 ? data_.train : data_.train.slice(begin, end);
  }
  if (order_epoch_ != key.epoch) {
    order_ = torch::tensor(
        random_permutation(data_.train.size(),
                           derive_seed(static_cast<uint64_t>(config_.seed), "data-order",
                                       static_cast<uint64_t>(key.epoch))),
        torch::kLong);
    order_epoch_ = key.epoch;
  }
  return data_.train.select(order_.slice(0, begin, end));
}

train::StepResult ClassificationProblem::forward(const train::StepKey& key) {
  const auto images = batch(key);
  auto pixels = images.images;
  if (config_.data.augment) {
    // A stream for each step, and for each of its parts: index 0 is the whole step.
    const auto seed = derive_seed(static_cast<uint64_t>(config_.seed), "augment",
                                  static_cast<uint64_t>(key.step));
    pixels = flip_and_crop(
        pixels, key.part == 0 ? seed : derive_seed(seed, "part", static_cast<uint64_t>(key.part)));
  }
  nn::RouterContext context;
  context.generator = key.generator;
  context.task_id = images.labels;
  auto output = model_->forward(data::normalize(pixels, data_.normalization), context);
  train::StepResult result;
  result.loss = model_->loss(output, images.labels);
  result.samples = images.size();
  result.sums = {
      {"wrong", output.log_probs.detach().argmax(1).ne(images.labels).sum().item<double>()}};
  result.layers = std::move(output.layers);
  return result;
}

Json ClassificationProblem::summarize(const Evaluation& evaluation) const {
  return evaluation_summary(evaluation, *model_, data_.input.num_classes);
}

Json ClassificationProblem::evaluate(const train::LoopState& state) {
  if (state.step == 0) return nullptr;
  const auto test = classification::evaluate(*model_, data_.test, data_.normalization);
  Json line = {{"epoch", state.epoch},
               {"step", state.step},
               {"train_loss", state.mean_loss()},
               {"aux_loss", state.aux_sum / static_cast<double>(std::max<int64_t>(state.seen, 1))},
               {"train_error", state.mean_of("wrong")}};
  line["test"] = summarize(test);
  if (auto aligned = alignments(*model_, data_, test.trace); !aligned.empty()) {
    line["alignment"] = std::move(aligned);
  }
  if (data_.validation.size() > 0) {
    line["validation_loss"] =
        classification::evaluate(*model_, data_.validation, data_.normalization).loss;
  }
  return line;
}

Json ClassificationProblem::finish(const train::LoopState& state,
                                   const std::filesystem::path& folder) {
  Json summary = {{"recipe", std::string(config_.data.set.name())},
                  {"seed", config_.seed},
                  {"epochs", state.epoch},
                  {"stopped_early", state.stopped_early}};
  const auto judged = judge(*model_, data_);
  summary.update(judged.summary);
  metrics::write_trace(folder / "trace.safetensors", judged.trace);
  return summary;
}

Json ClassificationProblem::describe() {
  return models::describe_model(*model_, config_.model.choice, data_.input);
}

void ClassificationProblem::restore(const Json& description, const std::string& where) {
  models::restore_experts(*model_, description, where);
}

}  // namespace moekit::classification
