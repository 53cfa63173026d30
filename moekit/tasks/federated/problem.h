#pragma once

#include <memory>
#include <vector>

#include "moekit/tasks/federated/config.h"
#include "moekit/tasks/federated/federation.h"
#include "moekit/tasks/federated/local_training.h"
#include "moekit/tasks/federated/user_data.h"
#include "moekit/train/problem.h"

namespace moekit::federated {

/// Federated learning with weights from a trusted reference: in every round some users train the
/// global network on their own data, attackers return something else, the server trains its
/// reference on what users handed over and joins the users' networks by it. A step is a round, and
/// so is an epoch. Beside it a control is trained by the server alone.
/// Source: Parsaeefard, Etesami, Leon-Garcia 2021, Robust Federated Learning by Mixture of Experts,
/// arXiv:2104.11700.
class FederatedProblem : public train::Problem {
 public:
  /// @throws ArgumentError naming the key
  FederatedProblem(Config config, std::unique_ptr<Attack> attack, UserData data);

  torch::nn::Module& module() override { return *federation_; }
  int64_t total_steps() const override { return config_.rounds; }
  int64_t steps_per_epoch() const override { return 1; }
  int64_t samples(const train::StepKey& key) const override;
  /// The whole round; the loss is that of the new global network on the test set. No graph.
  /// @throws NumericError for a server whose own network is not finite
  train::StepResult forward(const train::StepKey& key) override;
  void update(torch::optim::Optimizer* optimizer) override;
  Json evaluate(const train::LoopState& state) override;
  Json finish(const train::LoopState& state, const std::filesystem::path& folder) override;
  Json describe() override;
  void restore(const Json& description, const std::string& where) override;
  Json state() const override;
  void load_state(const Json& state, const std::string& where) override;

  /// Users of a round, in order.
  std::vector<int64_t> users_of(int64_t round) const;
  const UserData& data() const { return data_; }

 private:
  struct State;
  struct Round;
  /// What the users of a round return, and the losses of those that trained.
  std::vector<Trained> train_users(const std::vector<int64_t>& users, int64_t round) const;
  /// The control's next weights, and before them, where the aggregation needs it, the reference's.
  std::vector<Trained> train_server(int64_t round) const;
  LocalOptions local() const {
    return {config_.lr, config_.batch_size, config_.local_epochs, config_.threads};
  }

  Config config_;
  std::unique_ptr<Attack> attack_;
  std::unique_ptr<merge::Aggregator> aggregator_;
  UserData data_;
  nn::MlpExpertsOptions net_;
  std::shared_ptr<Federation> federation_;
  torch::Tensor test_pixels_;  ///< [N, D]
  std::shared_ptr<State> state_;
  std::shared_ptr<Round> round_;  ///< between forward() and evaluate()
};

}  // namespace moekit::federated
