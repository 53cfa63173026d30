#pragma once

#include <filesystem>

#include "moekit/core/config.h"
#include "moekit/metrics/routing_trace.h"
#include "moekit/tasks/classification/run_data.h"

namespace moekit::classification {

/// Everything a finished run tells about its experts, as JSON. Per layer:
///   experts, usage (shares by argmax), mean_probs, dead, load (cv, gini, used, H_u)
///   sample_entropy, top1_mass, confidence (mean largest class probability by expert)
///   by_predicted and by_label (and by_cluster where known): I, H(E|L), H(L|E), baseline, purity,
///   matching; class_by_expert counts; confusion by expert; regret; retention; similarity.
/// Where `train.keep_every` kept checkpoints: saturation_over_time, the share of the final choices
/// that each of them makes already.
/// @param folder  run folder; @param data  what load_run_data() gives for its recipe
/// @param against another run on the same test images: adds the router's saturation
Json inspect_run(const std::filesystem::path& folder, const RunData& data,
                 const std::string& against = {});

/// Per expert, the `count` test images it is given with the highest probability (of those whose
/// argmax it is). @return indices into the test set, [E][<= count]
std::vector<std::vector<int64_t>> favourite_images(const metrics::LayerTrace& layer, int64_t count);

}  // namespace moekit::classification
