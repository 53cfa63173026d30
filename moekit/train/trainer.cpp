#include "moekit/train/trainer.h"

#include <torch/nn/utils/clip_grad.h>
#include <torch/optim/adam.h>
#include <torch/optim/adamw.h>
#include <torch/optim/sgd.h>

#include <cmath>

#include "moekit/core/error.h"
#include "moekit/core/random.h"
#include "moekit/tensor/generator.h"
#include "moekit/train/augment.h"

namespace moekit::train {
namespace {

template <typename Optimizer, typename Options, typename... More>
std::unique_ptr<torch::optim::Optimizer> build(const TrainConfig& config,
                                               std::vector<std::vector<torch::Tensor>> parameters,
                                               Options base, const More&... more) {
  std::vector<torch::optim::OptimizerParamGroup> groups;
  for (size_t g = 0; g < parameters.size(); ++g) {
    auto options = std::make_unique<Options>(base);
    if (g > 0) {
      options->lr(config.lr * config.groups[g - 1].lr_scale);
      options->weight_decay(config.groups[g - 1].weight_decay);
    }
    groups.emplace_back(std::move(parameters[g]), std::move(options));
  }
  return std::make_unique<Optimizer>(std::move(groups), base, more...);
}

}  // namespace

std::unique_ptr<torch::optim::Optimizer> make_optimizer(const TrainConfig& config,
                                                        const torch::nn::Module& model) {
  std::vector<std::vector<torch::Tensor>> parameters(config.groups.size() + 1);
  for (const auto& item : model.named_parameters()) {
    if (!item.value().requires_grad()) continue;
    size_t group = 0;
    for (size_t g = 0; g < config.groups.size() && group == 0; ++g) {
      if (item.key().rfind(config.groups[g].match, 0) == 0) group = g + 1;
    }
    parameters[group].push_back(item.value());
  }
  for (size_t g = 0; g < config.groups.size(); ++g) {
    MOEKIT_CHECK(!parameters[g + 1].empty(), "train.groups[", g, "].match = \"",
                 config.groups[g].match, "\" fits no parameter that learns");
  }
  using torch::optim::AdamOptions;
  using torch::optim::AdamWOptions;
  using torch::optim::SGDOptions;
  std::vector<size_t> normalized;
  for (size_t g = 0; g < config.groups.size(); ++g) {
    if (config.groups[g].normalize) normalized.push_back(g + 1);
  }
  const auto sgd =
      SGDOptions(config.lr).momentum(config.momentum).weight_decay(config.weight_decay);
  switch (config.optimizer) {
    case OptimizerKind::kAdam:
      return build<torch::optim::Adam>(config, std::move(parameters),
                                       AdamOptions(config.lr).weight_decay(config.weight_decay));
    case OptimizerKind::kAdamW:
      return build<torch::optim::AdamW>(config, std::move(parameters),
                                        AdamWOptions(config.lr).weight_decay(config.weight_decay));
    case OptimizerKind::kSgd:
      return build<torch::optim::SGD>(config, std::move(parameters), sgd);
    case OptimizerKind::kNormalizedGd:
      return build<NormalizedGd>(config, std::move(parameters), sgd, normalized,
                                 config.gradient_norm);
  }
  throw ArgumentError("train.optimizer: unknown");
}

double schedule_factor(const TrainConfig& config, int64_t step, int64_t total_steps) {
  if (step < config.warmup_steps) {
    return static_cast<double>(step + 1) / static_cast<double>(config.warmup_steps);
  }
  const double rest = static_cast<double>(std::max<int64_t>(1, total_steps - config.warmup_steps));
  const double done = static_cast<double>(step - config.warmup_steps) / rest;
  switch (config.schedule) {
    case Schedule::kConstant:
      return 1;
    case Schedule::kCosine:
      return 0.5 * (1 + std::cos(M_PI * done));
    case Schedule::kLinear:
      return 1 - done;
  }
  return 1;
}

Trainer::Trainer(RunConfig config, std::shared_ptr<models::ClassifierImpl> model,
                 data::ImageSet train_set, data::Normalization normalization,
                 nn::FrozenModules frozen)
    : config_(std::move(config)),
      model_(std::move(model)),
      train_set_(std::move(train_set)),
      normalization_(std::move(normalization)),
      frozen_(std::move(frozen)),
      optimizer_(make_optimizer(config_.train, *model_)) {
  MOEKIT_CHECK(train_set_.size() > 0, "Trainer: the training set is empty");
  MOEKIT_CHECK(!config_.data.augment || !train_set_.images.is_floating_point(),
               "data.augment: flips and crops are for images; data set ", config_.data.set.name(),
               " holds numbers");
  for (auto& group : optimizer_->param_groups()) base_lr_.push_back(group.options().get_lr());
}

int64_t Trainer::steps_per_epoch() const {
  return (train_set_.size() + config_.train.batch_size - 1) / config_.train.batch_size;
}

void Trainer::report_non_finite(const std::string& where) const {
  std::string first = where;
  std::string largest;
  double size = -1;
  for (const auto& item : model_->named_parameters()) {
    if (!torch::isfinite(item.value()).all().item<bool>()) {
      first = concat("parameter ", item.key(), " (seen in ", where, ")");
      break;
    }
    const double own = item.value().numel() > 0 ? item.value().abs().max().item<double>() : 0;
    if (own > size) {
      size = own;
      largest = concat("; the largest parameter is ", item.key(), ", up to ", size);
    }
  }
  throw NumericError(concat("training stopped at step ", state.step + 1, " (epoch ",
                            state.epoch + 1, "): ", first, " is not finite", largest));
}

bool Trainer::loss_says_stop() {
  const TrainConfig& train = config_.train;
  const double loss = state.loss_sum / static_cast<double>(std::max<int64_t>(state.seen, 1));
  state.lowest_loss = state.epoch == 1 ? loss : std::min(state.lowest_loss, loss);
  if (state.epoch < train.stop_from_epoch) return false;
  return (train.stop_below > 0 && loss <= train.stop_below) ||
         (train.stop_rise > 0 && loss > state.lowest_loss + train.stop_rise);
}

double Trainer::train_batch(const data::ImageSet& batch, const TrainerHooks& hooks) {
  const auto seed = static_cast<uint64_t>(config_.seed);
  const auto step = static_cast<uint64_t>(state.step);
  auto pixels = batch.images;
  if (config_.data.augment) pixels = flip_and_crop(pixels, derive_seed(seed, "augment", step));
  const auto images = data::normalize(pixels, normalization_);
  nn::RouterContext context;
  context.generator = tensor::make_generator(derive_seed(seed, "router-noise", step));
  context.task_id = batch.labels;

  const double factor = schedule_factor(config_.train, state.step, total_steps());
  auto& groups = optimizer_->param_groups();
  for (size_t g = 0; g < groups.size(); ++g) groups[g].options().set_lr(base_lr_[g] * factor);

  const auto output = model_->forward(images, context);
  auto loss = model_->loss(output, batch.labels);
  const double main_loss = loss.item<double>();
  if (!std::isfinite(main_loss)) report_non_finite("the loss");
  double aux = 0;
  for (const auto& layer : output.layers) {
    for (const auto& term : nn::aux_losses({layer.routing, layer.samples}, config_.loss)) {
      const double value = term.value.item<double>();
      if (!std::isfinite(value)) report_non_finite("aux loss " + term.name + " of " + layer.name);
      aux += value;
      loss = loss + term.value;
    }
  }
  optimizer_->zero_grad();
  if (loss.requires_grad()) loss.backward();
  if (config_.train.clip_norm > 0) {
    torch::nn::utils::clip_grad_norm_(model_->parameters(), config_.train.clip_norm);
  }
  if (hooks.before_optimizer) hooks.before_optimizer(*this);
  optimizer_->step();
  if (hooks.after_optimizer) hooks.after_optimizer(*this);

  const auto count = batch.size();
  state.loss_sum += main_loss * static_cast<double>(count);
  state.aux_sum += aux * static_cast<double>(count);
  state.wrong += output.log_probs.detach().argmax(1).ne(batch.labels).sum().item<int64_t>();
  state.seen += count;
  return main_loss + aux;
}

void Trainer::run(const TrainerHooks& hooks) {
  model_->train();
  frozen_.apply();
  while (state.epoch < config_.train.epochs && !state.stopped_early) {
    torch::Tensor index;
    if (steps_per_epoch() > 1) {  // one full batch needs no order
      index = torch::tensor(
          random_permutation(train_set_.size(),
                             derive_seed(static_cast<uint64_t>(config_.seed), "data-order",
                                         static_cast<uint64_t>(state.epoch))),
          torch::kLong);
    }
    while (state.batch < steps_per_epoch()) {
      const int64_t begin = state.batch * config_.train.batch_size;
      const int64_t end = std::min(begin + config_.train.batch_size, train_set_.size());
      const double loss = train_batch(
          index.defined() ? train_set_.select(index.slice(0, begin, end)) : train_set_, hooks);
      ++state.batch;
      ++state.step;
      if (hooks.on_step && !hooks.on_step(*this, loss)) return;
    }
    ++state.epoch;
    if (loss_says_stop()) state.stopped_early = true;
    const bool go_on = !hooks.on_epoch || hooks.on_epoch(*this);
    state.batch = 0;
    state.loss_sum = state.aux_sum = 0;
    state.wrong = state.seen = 0;
    model_->train();
    frozen_.apply();
    if (!go_on) return;
  }
}

}  // namespace moekit::train
