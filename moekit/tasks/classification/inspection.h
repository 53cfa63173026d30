#pragma once

#include <filesystem>

#include "moekit/core/config.h"
#include "moekit/metrics/routing_trace.h"
#include "moekit/tasks/classification/run_data.h"

namespace moekit::classification {

/// The trace of a run folder, fit to its data: labels "label" and "predicted", and "cluster" where
/// the data know clusters, of every test image and in range, and any experts' outputs over the
/// classes.
/// @throws IoError, FormatError naming file, key and value
metrics::RoutingTrace read_run_trace(const std::filesystem::path& folder, const RunData& data);

/// Everything a finished run tells about its experts, as JSON. Per layer:
///   experts, usage (shares by argmax), mean_probs, dead, load (cv, gini, used, H_u)
///   sample_entropy, top1_mass, confidence (mean largest class probability by expert)
///   by_predicted and by_label (and by_cluster where known): I, H(E|L), H(L|E), baseline, purity,
///   matching; class_by_expert counts; confusion by expert; regret; retention; similarity.
/// Where `train.keep_every` kept checkpoints: saturation_over_time, the share of the final choices
/// that each of them makes already.
/// @param folder  run folder; @param data  what load_run_data() gives for its recipe
/// @param against another run on the same test images: adds the router's saturation
/// Random baselines and how alike outputs are say how they were taken: subset_retention has
/// baseline_subsets and baseline_exact (every subset, or as many drawn), output_cka_estimator names
/// the estimator and output_cka_left_out counts the pairs of experts without a value; a mean over
/// no pair is null.
/// @throws IoError, FormatError as `read_run_trace`, also where `against` lacks a layer or has one
///         of other sizes
Json inspect_run(const std::filesystem::path& folder, const RunData& data,
                 const std::string& against = {});

/// Per expert, the `count` test images it is given with the highest probability (of those whose
/// argmax it is). @return indices into the test set, [E][<= count]
std::vector<std::vector<int64_t>> favourite_images(const metrics::LayerTrace& layer, int64_t count);

}  // namespace moekit::classification
