#include "moekit/tasks/federated/user_data.h"

#include <torch/torch.h>

#include <cmath>

#include "moekit/core/random.h"
#include "moekit/tasks/federated/attacks/pixel_noise.h"

namespace moekit::federated {
namespace {

data::ImageSet limited(const char* key, const data::ImageSet& set, int64_t limit) {
  MOEKIT_CHECK(limit <= set.size(), key, " = ", limit, ", but there are ", set.size(), " images");
  return limit > 0 ? set.slice(0, limit) : set;
}

torch::Tensor index_of(const std::vector<int64_t>& list) {
  return torch::tensor(list, torch::kLong);
}

std::vector<bool> draw_attackers(const Config& config, int64_t count) {
  const auto order = random_permutation(
      config.users, derive_seed(static_cast<uint64_t>(config.seed), "attackers"));
  std::vector<bool> attacks(static_cast<size_t>(config.users), false);
  for (int64_t i = 0; i < count; ++i) {
    attacks[static_cast<size_t>(order[static_cast<size_t>(i)])] = true;
  }
  return attacks;
}

}  // namespace

uint64_t user_seed(const Config& config, int64_t user) {
  return derive_seed(static_cast<uint64_t>(config.seed), "user", static_cast<uint64_t>(user));
}

UserData make_user_data(const Config& config, const data::ImageDataset& dataset,
                        const Attack& attack) {
  UserData out;
  const auto samples = limited("data.train_limit", dataset.train, config.data.train_limit);
  out.test = limited("data.test_limit", dataset.test, config.data.test_limit);
  out.normalization = dataset.normalization;
  if (!config.data.normalize) {
    out.normalization.mean.assign(out.normalization.mean.size(), 0);
    out.normalization.std_dev.assign(out.normalization.std_dev.size(), 1);
  }
  out.num_classes = dataset.num_classes();
  const auto dealt = config.split->make(SplitSite{})
                         ->deal(samples.labels, out.num_classes, config.users,
                                derive_seed(static_cast<uint64_t>(config.seed), "split"));
  std::vector<int64_t> all;
  out.offsets.push_back(0);
  for (int64_t user = 0; user < config.users; ++user) {
    const auto& own = dealt[static_cast<size_t>(user)];
    MOEKIT_CHECK(!own.empty(), "users = ", config.users, ", split.kind = \"", config.split->name(),
                 "\": user ", user, " gets none of ", samples.size(), " images");
    all.insert(all.end(), own.begin(), own.end());
    out.offsets.push_back(static_cast<int64_t>(all.size()));
  }
  out.train = samples.select(index_of(all));
  out.attacks = draw_attackers(config, attack.attackers());

  std::vector<int64_t> handed;   // rows of out.train
  std::vector<int64_t> corrupt;  // rows of what is handed over
  for (int64_t user = 0; user < config.users; ++user) {
    const auto u = static_cast<size_t>(user);
    const auto count = static_cast<int64_t>(
        std::floor(config.public_share * static_cast<double>(out.size_of(user)) + 1e-9));
    const auto order =
        random_permutation(out.size_of(user), derive_seed(user_seed(config, user), "public"));
    for (int64_t i = 0; i < count; ++i) {
      if (out.attacks[u] && !attack.pure()) corrupt.push_back(static_cast<int64_t>(handed.size()));
      handed.push_back(out.offsets[u] + order[static_cast<size_t>(i)]);
    }
  }
  MOEKIT_CHECK(!handed.empty(), "public_share = ", config.public_share, ": none of ", config.users,
               " users has a whole sample to hand over");
  out.shared = out.train.select(index_of(handed));
  if (!corrupt.empty()) {
    auto noisy = out.shared.images.index_select(0, index_of(corrupt));
    add_byte_noise(noisy, kReleasedNoise,
                   derive_seed(static_cast<uint64_t>(config.seed), "public-noise"),
                   "attack.pure = false");
    out.shared.images.index_copy_(0, index_of(corrupt), noisy);
  }
  for (int64_t user = 0; user < config.users; ++user) {
    const auto u = static_cast<size_t>(user);
    if (!out.attacks[u]) continue;
    auto own = out.train.slice(out.offsets[u], out.offsets[u + 1]);  // shares memory
    attack.poison(own, out.num_classes, derive_seed(user_seed(config, user), "poison"));
  }
  return out;
}

UserData load_user_data(const Config& config, const Attack& attack, const std::string& folder) {
  const data::DatasetSite site{folder, static_cast<uint64_t>(config.seed)};
  const auto dataset = data::load_images(config.data.set, site);
  UserData out = make_user_data(config, *dataset, attack);
  if (!config.data.set.row().generated()) out.checksum = data::checksum(*dataset);
  return out;
}

}  // namespace moekit::federated
