#pragma once

#include <vector>

#include "moekit/data/image_dataset.h"
#include "moekit/merge/aggregate.h"
#include "moekit/nn/experts/mlp_experts.h"

namespace moekit::federated {

/// One model that is to be trained: where it starts, and on what.
struct Learner {
  merge::WeightSet start;
  std::vector<int64_t> rows;  ///< of the samples, at least one
  uint64_t seed = 0;          ///< of the order it takes them in
};

struct LocalOptions {
  double lr = 0.01;
  int64_t batch_size = 20;
  int64_t epochs = 1;
  int64_t threads = 1;  ///< that learners are shared out to
};

struct Trained {
  merge::WeightSet weights;
  double loss = 0;  ///< mean over its steps' samples, each before the step; may be NaN
};

/// Trains models of one shape, each on its own samples: plain SGD on cross-entropy, the mean over a
/// batch. What becomes of a learner depends, bit for bit, neither on who else trains nor on their
/// order, nor on the number of threads.
/// @param samples  images as stored, flattened here @param net  sizes, of relu units with biases;
/// its `num_experts` is not read
std::vector<Trained> train_learners(const data::ImageSet& samples,
                                    const data::Normalization& normalization,
                                    const std::vector<Learner>& learners,
                                    const nn::MlpExpertsOptions& net, const LocalOptions& options);

}  // namespace moekit::federated
