#pragma once

#include <string>
#include <vector>

#include "moekit/data/image_dataset.h"
#include "moekit/tasks/federated/config.h"

namespace moekit::federated {

/// Who has what: the samples of users, with what attackers did to theirs, and what the server got.
struct UserData {
  data::ImageSet train;          ///< user after user
  std::vector<int64_t> offsets;  ///< [U + 1], user u has rows offsets[u]..offsets[u+1]-1
  std::vector<bool> attacks;     ///< [U]
  data::ImageSet shared;         ///< copies that users handed over, user after user
  data::ImageSet test;
  data::Normalization normalization;
  int64_t num_classes = 0;
  std::string checksum;  ///< of the whole data set; empty where it is generated

  int64_t size_of(int64_t user) const {
    const auto u = static_cast<size_t>(user);
    return offsets[u + 1] - offsets[u];
  }
  int64_t input_size() const { return train.images[0].numel(); }
};

/// The seed of everything random about one user.
uint64_t user_seed(const Config& config, int64_t user);

/// Deals out the samples, lets users hand over copies of some (drawn at random, rounded down) and
/// attackers change theirs. What they hand over is clean, unless `attack.pure` is off.
/// @throws ArgumentError naming the key where a user or the server is left without data
UserData make_user_data(const Config& config, const data::ImageDataset& dataset,
                        const Attack& attack);

/// The same of the recipe's data set. @param folder  --data flag, may be empty
UserData load_user_data(const Config& config, const Attack& attack, const std::string& folder);

}  // namespace moekit::federated
