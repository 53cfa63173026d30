#include "moekit/train/trainer.h"

#include <torch/nn/utils/clip_grad.h>

#include <algorithm>
#include <cmath>
#include <utility>

#include "moekit/core/error.h"
#include "moekit/core/random.h"
#include "moekit/nn/frozen_experts.h"
#include "moekit/tensor/generator.h"
#include "moekit/train/joined_losses.h"

namespace moekit::train {

Trainer::Trainer(Problem& problem, std::unique_ptr<torch::optim::Optimizer> optimizer,
                 TrainerOptions options, std::vector<nn::AuxLoss> losses,
                 std::vector<Callback*> callbacks)
    : problem_(problem),
      optimizer_(std::move(optimizer)),
      options_(std::move(options)),
      losses_(std::move(losses)),
      callbacks_(std::move(callbacks)) {
  MOEKIT_CHECK(options_.accumulate >= 1, "Trainer: accumulate must be at least 1; got ",
               options_.accumulate);
  MOEKIT_CHECK(options_.clip_norm >= 0 && std::isfinite(options_.clip_norm),
               "Trainer: clip_norm must be a finite number from 0; got ", options_.clip_norm);
  for (const auto& layer : nn::routed_layers(problem_.module())) {
    banks_.push_back(layer.experts);
    if (layer.router) routers_.push_back(layer.router);
  }
  if (!optimizer_) return;
  for (auto& group : optimizer_->param_groups()) base_lr_.push_back(group.options().get_lr());
}

bool Trainer::is_epoch_over() const {
  return state.batch >= problem_.steps_per_epoch() || state.step >= problem_.total_steps();
}

bool Trainer::run() {
  paused_ = false;
  problem_.start_training();
  while (!is_over()) {
    step();
    if (is_epoch_over()) end_epoch();
    if (paused_) return is_over();
  }
  return true;
}

void Trainer::end_epoch() {
  ++state.epoch;
  for (auto* callback : callbacks_) callback->on_epoch(*this);
  state.batch = 0;
  state.loss_sum = state.aux_sum = 0;
  state.seen = 0;
  state.sums = Json::object();
  for (auto* callback : callbacks_) callback->between_epochs(*this);
  problem_.start_training();
}

StepKey Trainer::key() const {
  StepKey key;
  key.epoch = state.epoch;
  key.batch = state.batch;
  key.step = state.step;
  return key;
}

void Trainer::step() {
  problem_.before_step(state);
  prepare_optimizer();
  const StepKey now = key();
  const int64_t parts = std::min(options_.accumulate, problem_.samples(now));
  auto totals = parts > 1 ? take_parts(now, parts) : take_whole(now);
  totals.report.loss = totals.loss + totals.aux;
  for (const auto& bank : banks_) nn::clear_frozen_gradients(*bank);
  if (options_.clip_norm > 0) {
    torch::nn::utils::clip_grad_norm_(problem_.module().parameters(), options_.clip_norm);
  }
  for (auto* callback : callbacks_) callback->before_optimizer(*this, totals.report);
  if (!std::exchange(skip_update_, false)) problem_.update(optimizer_.get());
  nn::StepLoad load;
  for (const auto& router : routers_) {
    const auto own = router->step_load();
    load.assignments += own.assignments;
    load.pairs += own.pairs;
  }
  for (const auto& router : routers_) router->end_step(load);
  for (auto* callback : callbacks_) callback->after_optimizer(*this, totals.report);
  const auto samples = static_cast<double>(totals.report.samples);
  state.loss_sum += totals.loss * samples;
  state.aux_sum += totals.aux * samples;
  state.last_loss = totals.loss;
  ++state.batch;
  ++state.step;
  problem_.after_step(state);
  for (auto* callback : callbacks_) callback->on_step(*this, totals.report);
}

Trainer::Totals Trainer::take_whole(StepKey key) {
  key.generator = tensor::make_generator(
      derive_seed(options_.seed, "router-noise", static_cast<uint64_t>(key.step)));
  Totals totals;
  auto result = problem_.forward(key);
  totals.loss = result.loss.item<double>();
  auto loss = result.loss;
  if (!std::isfinite(totals.loss)) report_non_finite("the loss");
  for (const auto& layer : result.layers) {
    const auto terms = nn::aux_losses({layer.routing, layer.samples}, losses_);
    totals.aux += checked_sum(terms, layer.name);
    for (const auto& term : terms) loss = loss + term.value;
  }
  if (loss.requires_grad()) loss.backward();
  count(result);
  totals.report.samples = result.samples;
  totals.report.layers = std::move(result.layers);
  return totals;
}

Trainer::Totals Trainer::take_parts(StepKey key, int64_t parts) {
  const auto all = static_cast<double>(problem_.samples(key));
  const auto start_pass = [&] {
    key.generator = tensor::make_generator(
        derive_seed(options_.seed, "router-noise", static_cast<uint64_t>(key.step)));
  };
  key.parts = parts;
  const bool any_loss = std::any_of(losses_.begin(), losses_.end(),
                                    [](const auto& loss) { return bool(loss.value); }) ||
                        std::any_of(routers_.begin(), routers_.end(),
                                    [](const auto& router) { return router->traits().penalizes; });
  std::vector<std::vector<nn::LayerRouting>> routings;
  if (any_loss) {
    const torch::NoGradGuard no_grad;
    // The first pass shall leave no trace in running statistics.
    std::vector<std::pair<torch::Tensor, torch::Tensor>> buffers;
    for (auto& buffer : problem_.module().buffers()) buffers.emplace_back(buffer, buffer.clone());
    start_pass();
    for (key.part = 0; key.part < parts; ++key.part) {
      routings.push_back(problem_.forward(key).layers);
    }
    for (auto& [buffer, before] : buffers) buffer.copy_(before);
  }
  Totals totals;
  const auto joined = any_loss ? std::make_unique<JoinedLosses>(routings, losses_) : nullptr;
  if (joined) {
    totals.report.layers = joined->layers();
    for (size_t l = 0; l < joined->terms().size(); ++l) {
      totals.aux += checked_sum(joined->terms()[l], joined->layers()[l].name);
    }
  }
  start_pass();
  for (key.part = 0; key.part < parts; ++key.part) {
    auto result = problem_.forward(key);
    const double loss = result.loss.item<double>();
    if (!std::isfinite(loss)) report_non_finite("the loss");
    const double share = static_cast<double>(result.samples) / all;
    totals.loss += loss * share;
    totals.report.samples += result.samples;
    auto total = result.loss * share;
    if (joined) {
      const auto pulled = joined->pull_back(static_cast<size_t>(key.part), result.layers);
      if (pulled.defined()) total = total + pulled;
    }
    if (total.requires_grad()) total.backward();
    count(result);
  }
  return totals;
}

double Trainer::checked_sum(const std::vector<nn::AuxLossTerm>& terms, const std::string& layer) {
  double sum = 0;
  for (const auto& term : terms) {
    const double value = term.value.item<double>();
    if (!std::isfinite(value)) report_non_finite("aux loss " + term.name + " of " + layer);
    sum += value;
  }
  return sum;
}

void Trainer::count(const StepResult& result) {
  state.seen += result.samples;
  for (const auto& [name, value] : result.sums) {
    state.sums[name] = state.sums.value(name, 0.0) + value;
  }
}

void Trainer::prepare_optimizer() {
  if (!optimizer_) return;
  const Stage stage = problem_.stage(state.step);
  const int64_t done = state.step - stage.first;
  if (done == 0) optimizer_->state().clear();
  double factor = stage.lr_scale;
  if (done < options_.warmup_steps) {
    factor *= static_cast<double>(done + 1) / static_cast<double>(options_.warmup_steps);
  } else {
    const int64_t rest = std::max<int64_t>(1, stage.steps - options_.warmup_steps);
    factor *= options_.schedule(static_cast<double>(done - options_.warmup_steps) /
                                static_cast<double>(rest));
  }
  auto& groups = optimizer_->param_groups();
  for (size_t g = 0; g < groups.size(); ++g) groups[g].options().set_lr(base_lr_[g] * factor);
  optimizer_->zero_grad();
}

void Trainer::report_non_finite(const std::string& where) const {
  std::string first = where;
  std::string largest;
  double size = -1;
  for (const auto& item : problem_.module().named_parameters()) {
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

}  // namespace moekit::train
