#pragma once

#include "moekit/core/config.h"
#include "moekit/metrics/routing_trace.h"
#include "moekit/models/classifier.h"
#include "moekit/tasks/classification/run_data.h"

namespace moekit::classification {

/// How experts and router of the first mixture point along the true directions of generated data,
/// by name; empty where neither has directions that fit.
/// @param trace  of the test set, for which experts are in use
Json alignments(models::ClassifierImpl& model, const RunData& data,
                const metrics::RoutingTrace& trace);

}  // namespace moekit::classification
