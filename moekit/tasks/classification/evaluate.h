#pragma once

#include <optional>

#include "moekit/core/config.h"
#include "moekit/data/image_dataset.h"
#include "moekit/metrics/routing_trace.h"
#include "moekit/models/classifier.h"

namespace moekit::classification {

/// A model judged on a set of images.
struct Evaluation {
  double loss = 0;   ///< mean loss of the model's own kind, without auxiliary losses
  double error = 0;  ///< share of images whose most probable class is wrong
  metrics::RoutingTrace
      trace;  ///< with labels "label", "predicted"; where known, "cluster"; where experts are
              ///< classifiers, "selected", what the most probable one predicts
  int64_t dropped = 0;  ///< assignments beyond the capacity, over all layers
};

struct EvaluateOptions {
  bool keep_outputs = false;  ///< also record each expert's class probabilities in the trace
  std::optional<uint64_t> noise_seed = {};  ///< leave the router's noise on, drawn from this seed
};

/// Runs the model over the set in evaluation mode, without gradients, and puts the mode back.
Evaluation evaluate(models::ClassifierImpl& model, const data::ImageSet& set,
                    const data::Normalization& normalization, const EvaluateOptions& options = {});

/// Figures of an evaluation as they stand in a run's summary: "error", "loss", of every kind of
/// mixture also "dropped", the number of assignments beyond its capacity, and per layer the
/// specialization figures.
Json evaluation_summary(const Evaluation& evaluation, const models::ClassifierImpl& model,
                        int64_t num_classes);

}  // namespace moekit::classification
