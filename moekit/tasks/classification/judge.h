#pragma once

#include "moekit/core/config.h"
#include "moekit/metrics/routing_trace.h"
#include "moekit/models/classifier.h"
#include "moekit/tasks/classification/run_data.h"

namespace moekit::classification {

/// What becomes of a finished model in a run's files.
struct Judged {
  Json summary;  ///< "parameters", "test", "train", and where the data have them "validation" and
                 ///< "alignment"
  metrics::RoutingTrace trace;  ///< of the test images
};
Judged judge(models::ClassifierImpl& model, const RunData& data);

}  // namespace moekit::classification
