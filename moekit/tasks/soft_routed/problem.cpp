#include "moekit/tasks/soft_routed/problem.h"

#include <algorithm>
#include <cmath>

#include "moekit/core/numbers.h"
#include "moekit/core/random.h"
#include "moekit/core/schema.h"
#include "moekit/tensor/generator.h"

namespace moekit::soft_routed {
namespace {

constexpr double kRecovered = 0.9;

at::Generator generator_of(const Config& config, const char* what, int64_t step = 0) {
  return tensor::make_generator(
      derive_seed(static_cast<uint64_t>(config.seed), what, static_cast<uint64_t>(step)));
}

Json order_json(const theory::OrderParameters& order) {
  return {{"rho_v", order.rho_v}, {"rho_w", order.rho_w}, {"student", order.student}};
}

double least(const std::vector<double>& values) {
  return *std::min_element(values.begin(), values.end());
}

int64_t count_recovered(const Json& overlaps) {
  return std::count_if(overlaps.begin(), overlaps.end(),
                       [](const Json& v) { return v.get<double>() > kRecovered; });
}

}  // namespace

/// What happened on the way.
struct SoftRoutedProblem::State {
  std::vector<int64_t> kept;        ///< pairs left after training; empty before its end
  std::vector<double> expert_time;  ///< per teacher pair; -1 before it is passed
  std::vector<double> router_time;
  double loss_trained = 0;
  double loss_pruned = 0;
  Json at_end_of_training = Json::object();

  template <typename Field>
  void visit(Field&& field) {
    field("kept", kept, "");
    field("expert_time", expert_time, "");
    field("router_time", router_time, "");
    field("loss_trained", loss_trained, "");
    field("loss_pruned", loss_pruned, "");
    field("at_end_of_training", at_end_of_training, "");
  }
};

SoftRoutedProblem::SoftRoutedProblem(Config config)
    : config_(std::move(config)), state_(std::make_shared<State>()) {
  validate(config_);
  const auto teacher = theory::make_teacher(config_.teacher_pairs, config_.dim, config_.gate,
                                            generator_of(config_, "teacher"));
  const auto student =
      config_.init == StudentInit::kOverlap
          ? theory::make_overlapping_student(teacher, generator_of(config_, "student"))
          : theory::make_student(config_.student_pairs, config_.dim, config_.gate,
                                 generator_of(config_, "student"));
  module_ = std::make_shared<StudentAndTeacher>(student, teacher);
  test_ = torch::empty({config_.test_samples, config_.dim})
              .normal_(0, 1, generator_of(config_, "test"));
  train_steps_ = round_to_integer(config_.time / config_.step, "time / step", 0);
  const auto pairs = static_cast<size_t>(config_.teacher_pairs);
  state_->expert_time.assign(pairs, -1);
  state_->router_time.assign(pairs, -1);
}

int64_t SoftRoutedProblem::steps_per_epoch() const {
  return std::max<int64_t>(
      1, round_to_integer(config_.record_every / config_.step, "record_every / step", 0));
}

void SoftRoutedProblem::before_step(const train::LoopState& state) {
  if (state.step >= train_steps_ && state_->kept.empty()) end_training();
}

train::StepResult SoftRoutedProblem::forward(const train::StepKey& key) {
  const auto x = torch::empty({config_.batch_size, config_.dim})
                     .normal_(0, 1, generator_of(config_, "batch", key.step));
  gradient_ = theory::soft_gradient(student(), x, teacher().forward(x));
  train::StepResult result;
  result.loss = torch::tensor(gradient_.loss, torch::kFloat64);
  result.samples = x.size(0);
  return result;
}

void SoftRoutedProblem::update(torch::optim::Optimizer* /*optimizer*/) {
  auto next = student();
  if (config_.frozen != Frozen::kRouter) {
    theory::spherical_step(next.w, gradient_.w, config_.step);
  }
  if (config_.frozen != Frozen::kExperts) {
    theory::spherical_step(next.v, gradient_.v, config_.step);
  }
  module_->student->set_rows(next);
}

void SoftRoutedProblem::after_step(const train::LoopState& state) {
  if (state.step > train_steps_) return;
  const auto order = theory::order_parameters(student(), teacher());
  const double now = static_cast<double>(state.step) * config_.step;
  for (size_t i = 0; i < order.rho_v.size(); ++i) {
    auto& expert = state_->expert_time[i];
    auto& router = state_->router_time[i];
    if (expert < 0 && order.rho_v[i] > kRecovered) expert = now;
    if (router < 0 && expert >= 0 && order.rho_w[i] > kRecovered) router = now;
  }
}

Json SoftRoutedProblem::evaluate(const train::LoopState& state) {
  if (state.step % steps_per_epoch() != 0) return nullptr;  // the last epoch, cut short
  Json line = order_json(theory::order_parameters(student(), teacher()));
  line["step"] = state.step;
  line["time"] = static_cast<double>(state.step) * config_.step;
  line["loss"] = state.step > 0 ? state.last_loss : theory::soft_loss(student(), teacher(), test_);
  return line;
}

void SoftRoutedProblem::end_training() {
  state_->at_end_of_training = order_json(theory::order_parameters(student(), teacher()));
  state_->loss_trained = theory::soft_loss(student(), teacher(), test_);
  state_->kept.clear();
  if (config_.prune) {
    state_->kept = theory::prune_cancelling_pairs(student(), test_, config_.teacher_pairs);
    module_->student->set_rows(student().select(torch::tensor(state_->kept, torch::kLong)));
  } else {
    for (int64_t j = 0; j < student().size(); ++j) state_->kept.push_back(j);
  }
  state_->loss_pruned = theory::soft_loss(student(), teacher(), test_);
}

/// Times of the pairs that were recovered, the earliest expert and the latest router.
void SoftRoutedProblem::add_recovery(Json& summary) const {
  int64_t recovered = 0;
  int64_t in_order = 0;
  for (size_t i = 0; i < state_->expert_time.size(); ++i) {
    const double expert = state_->expert_time[i];
    const double router = state_->router_time[i];
    if (expert < 0) continue;
    summary["expert_time"] = std::min(summary.value("expert_time", 1e30), expert);
    if (router < 0) continue;
    summary["router_time"] = std::max(summary.value("router_time", 0.0), router);
    ++recovered;
    if (expert < router) ++in_order;
  }
  if (recovered > 0) {
    summary["expert_first"] = static_cast<double>(in_order) / static_cast<double>(recovered);
  }
}

Json SoftRoutedProblem::finish(const train::LoopState& /*state*/,
                               const std::filesystem::path& /*folder*/) {
  if (state_->kept.empty()) end_training();
  const auto order = theory::order_parameters(student(), teacher());
  const Json& trained = state_->at_end_of_training;
  const int64_t pairs = config_.teacher_pairs;
  const bool experts = count_recovered(trained["rho_v"]) == pairs;
  const bool routers = count_recovered(trained["rho_w"]) == pairs;
  const auto kept = static_cast<int64_t>(state_->kept.size());
  const auto none = torch::empty({0, config_.dim});
  const theory::SoftRouted zero{none, none, theory::SoftGate::kSigmoid};
  Json out = {{"task", config_.task},
              {"seed", config_.seed},
              {"parameters", 2 * config_.student_pairs * config_.dim},
              {"predicted_expert_time", 4.0 / 3.0 * std::sqrt(static_cast<double>(config_.dim))},
              {"zero_loss", theory::soft_loss(zero, teacher(), test_)},
              {"loss_trained", state_->loss_trained},
              {"pairs_kept", kept},
              {"loss_pruned", state_->loss_pruned},
              {"loss_final", theory::soft_loss(student(), teacher(), test_)},
              {"trained", trained},
              {"final", order_json(order)},
              {"trained_min_rho_v", least(trained["rho_v"].get<std::vector<double>>())},
              {"trained_min_rho_w", least(trained["rho_w"].get<std::vector<double>>())},
              {"final_min_rho_v", least(order.rho_v)},
              {"final_min_rho_w", least(order.rho_w)},
              {"experts_recovered", experts ? 1 : 0},
              {"routers_recovered", routers ? 1 : 0},
              {"pruned_to_teacher", kept == pairs ? 1 : 0},
              {"gradient_error", gradient_error()}};
  add_recovery(out);
  if (routers && config_.prune && config_.fine_tune_steps > 0) {
    const bool whole = kept == pairs && order.distinct() && out["loss_final"].get<double>() <= 1e-6;
    out["pipeline_held"] = whole ? 1 : 0;
  }
  return out;
}

/// Largest relative error of the closed-form gradients against central differences, in double on
/// 1,000 samples.
double SoftRoutedProblem::gradient_error() const {
  const auto in_double = [](const theory::SoftRouted& m) {
    return theory::SoftRouted{m.w.to(torch::kFloat64), m.v.to(torch::kFloat64), m.gate};
  };
  auto model = in_double(theory::make_student(config_.student_pairs, config_.dim, config_.gate,
                                              generator_of(config_, "gradient-check")));
  const auto x = test_.slice(0, 0, 1000).to(torch::kFloat64);
  const auto target = in_double(teacher()).forward(x);
  const auto gradient = theory::soft_gradient(model, x, target);
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

Json SoftRoutedProblem::describe() {
  return {{"task", config_.task}, {"dim", config_.dim}, {"student_pairs", student().size()}};
}

void SoftRoutedProblem::restore(const Json& description, const std::string& where) {
  const bool known = description.is_object() && description.contains("student_pairs") &&
                     description["student_pairs"].is_number_integer();
  const int64_t pairs = known ? description["student_pairs"].get<int64_t>() : 0;
  MOEKIT_CHECK_FORMAT(pairs >= 1 && pairs <= config_.student_pairs, where,
                      ": student_pairs must be 1..", config_.student_pairs, "; got ",
                      known ? description["student_pairs"].dump() : "none");
  const auto rows = torch::arange(pairs, torch::kLong);
  module_->student->set_rows(
      student().select(rows));  // of that size; the tensors' values come from their file
}

Json SoftRoutedProblem::state() const { return to_json(*state_); }

void SoftRoutedProblem::load_state(const Json& state, const std::string& where) {
  const std::string at = where + ": problem";
  bind_state(state, at, *state_);
  const auto pairs = static_cast<size_t>(config_.teacher_pairs);
  MOEKIT_CHECK_FORMAT(state_->expert_time.size() == pairs && state_->router_time.size() == pairs,
                      at, ": expert_time and router_time must have ", pairs, " values");
  for (const int64_t pair : state_->kept) {
    MOEKIT_CHECK_FORMAT(pair < config_.student_pairs, at, ": kept must be pairs 0..",
                        config_.student_pairs - 1, "; got ", pair);
  }
  if (state_->kept.empty()) return;  // training is not over
  static const Schema kOrder = Schema::object(
      {{"rho_v", Schema::list(Schema::number())}, {"rho_w", Schema::list(Schema::number())}});
  const Json& trained = state_->at_end_of_training;
  kOrder.check(trained, at + ": at_end_of_training");
  MOEKIT_CHECK_FORMAT(trained["rho_v"].size() == pairs && trained["rho_w"].size() == pairs, at,
                      ": at_end_of_training: rho_v and rho_w must have ", pairs, " values");
}

}  // namespace moekit::soft_routed
