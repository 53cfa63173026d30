#include "moekit/train/config.h"

namespace moekit::train {
namespace {

void at_least(const char* key, double value, double least) {
  MOEKIT_CHECK(value >= least, key, " must be at least ", least, "; got ", value);
}

}  // namespace

void validate(const RunConfig& config) {
  at_least("seed", static_cast<double>(config.seed), 0);
  at_least("threads", static_cast<double>(config.threads), 1);
  config.data.set.check(data::DatasetSite{}, "data.options");
  at_least("data.train_limit", static_cast<double>(config.data.train_limit), 0);
  at_least("data.test_limit", static_cast<double>(config.data.test_limit), 0);
  at_least("data.holdout", static_cast<double>(config.data.holdout), 0);
  at_least("data.validation", static_cast<double>(config.data.validation), 0);
  const TrainConfig& train = config.train;
  at_least("train.epochs", static_cast<double>(train.epochs), 0);
  at_least("train.batch_size", static_cast<double>(train.batch_size), 1);
  MOEKIT_CHECK(train.lr > 0, "train.lr must be positive; got ", train.lr);
  at_least("train.momentum", train.momentum, 0);
  at_least("train.weight_decay", train.weight_decay, 0);
  at_least("train.warmup_steps", static_cast<double>(train.warmup_steps), 0);
  at_least("train.clip_norm", train.clip_norm, 0);
  at_least("train.patience", static_cast<double>(train.patience), 0);
  at_least("train.checkpoint_steps", static_cast<double>(train.checkpoint_steps), 0);
  at_least("train.keep_every", static_cast<double>(train.keep_every), 0);
  at_least("train.evaluate_every", static_cast<double>(train.evaluate_every), 1);
  at_least("train.stop_below", train.stop_below, 0);
  at_least("train.stop_rise", train.stop_rise, 0);
  at_least("train.stop_from_epoch", static_cast<double>(train.stop_from_epoch), 0);
  const bool is_sgd =
      train.optimizer == OptimizerKind::kSgd || train.optimizer == OptimizerKind::kNormalizedGd;
  MOEKIT_CHECK(train.momentum == 0 || is_sgd, "train.momentum = ", train.momentum,
               " wants train.optimizer = \"sgd\" or \"normalized_gd\"; got \"",
               enum_name(train.optimizer), "\"");
  bool normalizes = false;
  for (const auto& group : train.groups) normalizes = normalizes || group.normalize;
  MOEKIT_CHECK(normalizes == (train.optimizer == OptimizerKind::kNormalizedGd),
               "train.optimizer = \"normalized_gd\" and a group with normalize = true belong "
               "together; got optimizer \"",
               enum_name(train.optimizer), "\" and ", normalizes ? "such a group" : "none");
  MOEKIT_CHECK(!train.noisy_test || config.model.router.noise != nn::RouterNoise::kNone,
               "train.noisy_test wants a model.router.noise; got \"none\"");
  MOEKIT_CHECK(train.patience == 0 || config.data.validation > 0,
               "train.patience = ", train.patience, " wants data.validation > 0; got 0");
  const auto& loss = config.loss;
  const bool any_loss = loss.importance != 0 || loss.load != 0 || loss.balance != 0 ||
                        loss.router_z != 0 || loss.entropy != 0 || loss.similarity_same != 0 ||
                        loss.similarity_different != 0;
  MOEKIT_CHECK(!any_loss || config.model.kind != models::ModelKind::kSingle,
               "loss: a single model has no router; its coefficients must be 0");
  MOEKIT_CHECK(!any_loss || config.model.router.kind != models::RouterKind::kOracle,
               "loss: the oracle router does not learn; its coefficients must be 0");
  MOEKIT_CHECK(loss.load == 0 || (config.model.router.noise == nn::RouterNoise::kGaussian &&
                                  config.model.router.top_k > 0 &&
                                  config.model.router.top_k < config.model.num_experts),
               "loss.load = ", loss.load,
               " wants model.router.noise = \"gaussian\" and a model.router.top_k below "
               "model.num_experts");
  const InitConfig& init = config.init;
  MOEKIT_CHECK(init.router_from.empty() || init.trunk_from.empty(),
               "init.router_from and init.trunk_from: only one can be given");
  at_least("init.experts_seed", static_cast<double>(init.experts_seed), 0);
}

}  // namespace moekit::train
