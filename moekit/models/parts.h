#pragma once

#include <memory>

#include "moekit/models/config.h"
#include "moekit/nn/experts.h"
#include "moekit/nn/router.h"

namespace moekit::models {

/// Experts that take whole images and give class logits.
std::shared_ptr<nn::ExpertsImpl> make_image_experts(const ModelConfig& config,
                                                    const InputShape& input, int64_t num_experts);

/// A router on whole images.
std::shared_ptr<nn::RouterImpl> make_image_router(const ModelConfig& config,
                                                  const InputShape& input);

/// A router on vectors of size `hidden_size`, without a trunk.
std::shared_ptr<nn::RouterImpl> make_vector_router(const ModelConfig& config, int64_t hidden_size);

/// Experts on vectors of size `hidden_size`, giving as many values.
std::shared_ptr<nn::ExpertsImpl> make_vector_experts(const ModelConfig& config, int64_t hidden_size,
                                                     int64_t num_experts);

}  // namespace moekit::models
