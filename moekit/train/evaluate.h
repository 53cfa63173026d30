#pragma once

#include "moekit/core/config.h"
#include "moekit/data/dataset.h"
#include "moekit/metrics/routing_trace.h"
#include "moekit/models/classifier.h"

namespace moekit::train {

/// A model judged on a set of images.
struct Evaluation {
  double loss = 0;              ///< mean loss of the model's own kind, without auxiliary losses
  double error = 0;             ///< share of images whose most probable class is wrong
  metrics::RoutingTrace trace;  ///< with labels "label", "predicted" and, where known, "cluster"
  int64_t dropped = 0;          ///< assignments beyond the capacity, over all layers
};

/// Runs the model over the set in evaluation mode, without gradients, and puts the mode back.
/// @param keep_outputs  also record each expert's class probabilities in the trace
Evaluation evaluate(models::ClassifierImpl& model, const data::ImageSet& set,
                    const data::Normalization& normalization, bool keep_outputs = false);

/// Figures of an evaluation as they stand in a run's summary: "error", "loss" and per layer the
/// specialization figures.
Json evaluation_summary(const Evaluation& evaluation, const models::ModelConfig& config,
                        int64_t num_classes);

}  // namespace moekit::train
