#include "moekit/tasks/federated/problem.h"

#include <torch/torch.h>

#include <algorithm>
#include <cmath>
#include <numeric>

#include "moekit/core/random.h"
#include "moekit/core/schema.h"
#include "moekit/tensor/generator.h"

namespace moekit::federated {
namespace {

constexpr size_t kLastRounds = 5;  // whose mean accuracy the study compares

double mean_of_last(const std::vector<double>& values, size_t count) {
  const size_t taken = std::min(count, values.size());
  if (taken == 0) return 0;
  return std::accumulate(values.end() - static_cast<std::ptrdiff_t>(taken), values.end(), 0.0) /
         static_cast<double>(taken);
}

double mean_of(const std::vector<double>& values) { return mean_of_last(values, values.size()); }

/// A mean, or null where there is nothing to take it of.
Json mean_or_null(double sum, int64_t count) {
  return count > 0 ? Json(sum / static_cast<double>(count)) : Json(nullptr);
}

bool is_finite(const merge::WeightSet& weights) {
  return std::all_of(weights.begin(), weights.end(), [](const auto& item) {
    return torch::isfinite(item.second).all().template item<bool>();
  });
}

}  // namespace

/// One number a round.
struct FederatedProblem::State {
  std::vector<double> accuracy;          ///< of the global network, in percent
  std::vector<double> control_accuracy;  ///< of the server's own, in percent
  std::vector<double> attackers_weight;  ///< sum of rho
  std::vector<double> honest_weight;
  int64_t refused = 0;  ///< models, over all rounds

  template <typename Field>
  void visit(Field&& field) {
    field("accuracy", accuracy, "");
    field("control_accuracy", control_accuracy, "");
    field("attackers_weight", attackers_weight, "");
    field("honest_weight", honest_weight, "");
    field("refused", refused, "");
  }
};

struct FederatedProblem::Round {
  merge::Aggregation joined;
  merge::WeightSet control;
  Json line;  ///< of metrics, without step and epoch
};

FederatedProblem::FederatedProblem(Config config, std::unique_ptr<Attack> attack, UserData data)
    : config_(std::move(config)),
      attack_(std::move(attack)),
      aggregator_(config_.aggregation->make(merge::AggregateSite{config_.per_round})),
      data_(std::move(data)),
      net_(nn::MlpExpertsOptions(data_.input_size(), config_.hidden_size, 1)
               .output_size(data_.num_classes)),
      federation_(
          std::make_shared<Federation>(net_, attack_->memory(),
                                       tensor::make_generator(derive_seed(
                                           static_cast<uint64_t>(config_.seed), "experts-init")))),
      test_pixels_(data::normalize(data_.test.images, data_.normalization).flatten(1)),
      state_(std::make_shared<State>()) {
  validate(config_);
  MOEKIT_CHECK(data_.test.size() > 0, "data: the test set is empty");
}

std::vector<int64_t> FederatedProblem::users_of(int64_t round) const {
  auto users =
      random_permutation(config_.users, derive_seed(static_cast<uint64_t>(config_.seed),
                                                    "round-users", static_cast<uint64_t>(round)));
  users.resize(static_cast<size_t>(config_.per_round));
  std::sort(users.begin(), users.end());
  return users;
}

int64_t FederatedProblem::samples(const train::StepKey& key) const {
  int64_t count = 0;
  for (const int64_t user : users_of(key.step)) count += data_.size_of(user);
  return count;
}

std::vector<Trained> FederatedProblem::train_users(const std::vector<int64_t>& users,
                                                   int64_t round) const {
  std::vector<Trained> out(users.size());
  std::vector<Learner> learners;
  std::vector<size_t> places;
  for (size_t i = 0; i < users.size(); ++i) {
    const auto user = static_cast<size_t>(users[i]);
    const uint64_t seed =
        derive_seed(user_seed(config_, users[i]), "round", static_cast<uint64_t>(round));
    if (data_.attacks[user] && !attack_->trains()) {
      out[i].weights =
          attack_->weights({federation_->global(), federation_->past(round), net_, seed});
      continue;
    }
    Learner learner{federation_->global(), {}, seed};
    for (int64_t row = data_.offsets[user]; row < data_.offsets[user + 1]; ++row) {
      learner.rows.push_back(row);
    }
    learners.push_back(std::move(learner));
    places.push_back(i);
  }
  auto trained = train_learners(data_.train, data_.normalization, learners, net_, local());
  for (size_t i = 0; i < places.size(); ++i) out[places[i]] = std::move(trained[i]);
  return out;
}

std::vector<Trained> FederatedProblem::train_server(int64_t round) const {
  Learner learner;
  learner.rows.resize(static_cast<size_t>(data_.shared.size()));
  std::iota(learner.rows.begin(), learner.rows.end(), int64_t{0});
  // One order for both: a server that goes on from its own weights is the control.
  learner.seed =
      derive_seed(static_cast<uint64_t>(config_.seed), "server", static_cast<uint64_t>(round));
  std::vector<Learner> learners;
  if (aggregator_->needs_reference()) {
    learner.start = federation_->global();
    learners.push_back(learner);
  }
  learner.start = federation_->control();
  learners.push_back(std::move(learner));
  auto trained = train_learners(data_.shared, data_.normalization, learners, net_, local());
  for (const auto& own : trained) {
    if (is_finite(own.weights)) continue;
    throw NumericError(concat("round ", round + 1, ": the server's network is not finite; lr = ",
                              config_.lr, " is too large"));
  }
  return trained;
}

train::StepResult FederatedProblem::forward(const train::StepKey& key) {
  const auto users = users_of(key.step);
  const auto returned = train_users(users, key.step);
  auto server = train_server(key.step);
  std::vector<merge::WeightSet> models;
  for (const auto& one : returned) models.push_back(one.weights);
  auto round = std::make_shared<Round>();
  const auto reference =
      aggregator_->needs_reference() ? server.front().weights : merge::WeightSet();
  round->joined = merge::aggregate(*aggregator_, models, reference, federation_->global());
  round->control = server.back().weights;

  double weight[2] = {0, 0};  // of honest users, of attackers
  int64_t count[2] = {0, 0};
  double train_loss = 0;
  double train_weight = 0;
  for (size_t i = 0; i < users.size(); ++i) {
    const bool attacks = data_.attacks[static_cast<size_t>(users[i])];
    const double rho = round->joined.rho[i];
    weight[attacks ? 1 : 0] += rho;
    ++count[attacks ? 1 : 0];
    const bool trained = !attacks || attack_->trains();
    if (!trained || rho == 0 || !std::isfinite(returned[i].loss)) continue;
    train_loss += rho * returned[i].loss;
    train_weight += rho;
  }
  const auto judged = judge(round->joined.weights, net_, test_pixels_, data_.test.labels);
  const auto control = judge(round->control, net_, test_pixels_, data_.test.labels);
  const auto refused = static_cast<int64_t>(round->joined.refused.size());
  round->line = {{"accuracy_percent", 100 * judged.accuracy},
                 {"loss", judged.loss},
                 {"train_loss", train_weight > 0 ? Json(train_loss / train_weight) : Json(nullptr)},
                 {"attackers", count[1]},
                 {"attackers_weight", weight[1]},
                 {"honest_weight", weight[0]},
                 {"reference_weight", round->joined.reference},
                 {"rho_attacker", mean_or_null(weight[1], count[1])},
                 {"rho_honest", mean_or_null(weight[0], count[0])},
                 {"refused", refused},
                 {"server_only_percent", 100 * control.accuracy}};
  round_ = std::move(round);
  train::StepResult result;
  result.loss = torch::tensor(judged.loss, torch::kFloat64);
  result.samples = samples(key);
  return result;
}

void FederatedProblem::update(torch::optim::Optimizer* /*optimizer*/) {
  // The state's figures count the rounds that are done.
  const auto round = static_cast<int64_t>(state_->accuracy.size());
  federation_->move_on(round, round_->joined.weights, round_->control);
  const Json& line = round_->line;
  state_->accuracy.push_back(line["accuracy_percent"].get<double>());
  state_->control_accuracy.push_back(line["server_only_percent"].get<double>());
  state_->attackers_weight.push_back(line["attackers_weight"].get<double>());
  state_->honest_weight.push_back(line["honest_weight"].get<double>());
  state_->refused += line["refused"].get<int64_t>();
}

Json FederatedProblem::evaluate(const train::LoopState& state) {
  if (!round_) return nullptr;  // before the first round
  Json line = round_->line;
  line["step"] = state.step;
  line["epoch"] = state.epoch;
  return line;
}

Json FederatedProblem::finish(const train::LoopState& state,
                              const std::filesystem::path& /*folder*/) {
  const auto& accuracy = state_->accuracy;
  const auto& control = state_->control_accuracy;
  const auto attackers = std::count(data_.attacks.begin(), data_.attacks.end(), true);
  const double last = mean_of_last(accuracy, kLastRounds);
  const double control_last = mean_of_last(control, kLastRounds);
  return {
      {"seed", config_.seed},
      {"parameters", federation_->parameters_of_one()},
      {"rounds", state.step},
      {"users", config_.users},
      {"attackers", attackers},
      {"public_samples", data_.shared.size()},
      {"accuracy_percent", mean_of_last(accuracy, 1)},
      {"accuracy_last5_percent", last},
      {"attackers_weight", mean_of(state_->attackers_weight)},
      {"honest_weight", mean_of(state_->honest_weight)},
      {"refused", state_->refused},
      {"server_only",
       {{"accuracy_percent", mean_of_last(control, 1)}, {"accuracy_last5_percent", control_last}}},
      {"gain_on_server_percent", last - control_last}};
}

Json FederatedProblem::describe() {
  return {{"task", config_.task},
          {"input_size", net_.hidden_size()},
          {"hidden_size", net_.intermediate_size()},
          {"num_classes", net_.output_size()}};
}

void FederatedProblem::restore(const Json& description, const std::string& where) {
  const Json own = describe();
  MOEKIT_CHECK_FORMAT(description == own, where, ": must be ", own.dump(), "; got ",
                      description.dump());
}

Json FederatedProblem::state() const { return to_json(*state_); }

void FederatedProblem::load_state(const Json& state, const std::string& where) {
  const std::string at = where + ": problem";
  bind_state(state, at, *state_);
  const size_t rounds = state_->accuracy.size();
  MOEKIT_CHECK_FORMAT(
      rounds <= static_cast<size_t>(config_.rounds) && state_->control_accuracy.size() == rounds &&
          state_->attackers_weight.size() == rounds && state_->honest_weight.size() == rounds,
      at, ": its four lists must have one number for each of at most ", config_.rounds, " rounds");
}

}  // namespace moekit::federated
