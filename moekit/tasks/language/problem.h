#pragma once

#include <memory>

#include "moekit/models/decoder.h"
#include "moekit/tasks/language/config.h"
#include "moekit/tasks/language/text_data.h"
#include "moekit/train/problem.h"

namespace moekit::language {

/// How well a decoder foretells the judged texts of each domain, and whom its routers chose.
struct Judged {
  std::vector<double> loss;           ///< mean over a domain's tokens, in nats
  std::vector<double> bits_per_byte;  ///< of a domain
  std::vector<double> accuracy;       ///< of a domain's answers; empty where there are none
  std::vector<int64_t> tokens;        ///< of a domain
  std::vector<std::string> layers;    ///< mixtures by name
  std::vector<torch::Tensor> load;    ///< of each mixture: [domains, E], assignments, float64
  /// Of each mixture but the last, where tokens go next: [E, E of the next], first choices,
  /// float64.
  std::vector<torch::Tensor> flow;
  /// Of each mixture, mean over domains' tokens: [E, E], see metrics::coactivation()
  std::vector<torch::Tensor> together;
  double experts_per_token = 0;  ///< that were chosen, over all mixtures
  double mean_loss() const;      ///< over all tokens
};

/// A decoder that learns to foretell the next token. An epoch is `train.epoch_steps` steps.
class LanguageProblem : public train::Problem {
 public:
  /// Builds the model with its first weights.
  /// @throws ArgumentError naming the key when recipe and texts do not fit together.
  LanguageProblem(Config config, TextData data);

  torch::nn::Module& module() override { return *model_; }
  int64_t total_steps() const override;
  int64_t steps_per_epoch() const override { return config_.train.epoch_steps; }
  int64_t samples(const train::StepKey&) const override { return config_.train.loop.batch_size; }
  train::StepResult forward(const train::StepKey& key) override;
  Json evaluate(const train::LoopState& state) override;
  /// Also writes tokenizer.json, and texts.json and routes.json where the model has mixtures.
  Json finish(const train::LoopState& state, const std::filesystem::path& folder) override;
  Json describe() override;
  void restore(const Json& description, const std::string& where) override;

  models::DecoderImpl& model() { return *model_; }
  const TextData& data() const { return data_; }

 private:
  /// @param with_routes  also fill in `flow` and `together`
  Judged judge(bool with_routes = false);
  /// Of a forward pass over a judged window, a token, two a multiply-add: "all", "experts" (of
  /// mixtures: what is neither router nor attention), "routers".
  Json operations();
  /// How much the logits of a judged window's first half change, at most, when its second half is
  /// another one: rounding, unless a router looks ahead.
  double leak();
  /// Of the model with its feed-forward networks packed in a format: "loss", "perplexity", "bytes"
  /// and "float_bytes" of them; of a judged window "logit_difference", the largest of all logits,
  /// and "same_choice", the share of tokens whose likeliest next one is the same.
  Json packed_figures(const std::string& format);
  /// Of adapters, on a judged window of each domain: mean |cos| between outputs of a token's
  /// experts "before" and "after" they are made orthogonal, over all that have a router.
  Json adapter_cosines();
  /// Of the trained model: "flow", from each mixture to the next the share of an expert's tokens
  /// (row) that each of the next one's gets; "coactivation", where tokens have several experts.
  Json routes_of(const Judged& judged);
  Json figures_of(const Judged& judged);

  Config config_;
  TextData data_;
  models::Decoder model_;
};

}  // namespace moekit::language
