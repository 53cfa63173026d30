#pragma once

#include "moekit/core/config.h"
#include "moekit/metrics/routing_trace.h"

namespace moekit::metrics {

/// Labels 0..L-1 of which the largest is L - 1; 0 for none. @param labels [N] int64
int64_t num_labels(const torch::Tensor& labels);

/// The four figures of arXiv:2302.14703 and their relatives for one layer, as JSON: names are
/// those of the summary of a run.
///   mutual_information  I(E;Y) in bits, Y the predicted class, E the argmax expert
///   mutual_information_selected  the same, Y the class that expert alone predicts, as the paper's
///   released code has it; where the trace has it
///   mutual_information_true  the same by true label
///   sample_entropy H_s, usage_entropy H_u (bits), of the router's probabilities; for a router that
///   picks one expert (`hard`) H_s is 0 and H_u that of the argmax histogram, as the paper does
///   sample_entropy_top_k, usage_entropy_top_k  where a sample has several experts but not all: the
///   same of the probabilities of its experts alone, renormalised, as the released code has it
///   label_entropy_over_experts  mean over true classes of the entropy of the class's mean probs
///   usage: share of each expert
///   cluster, where true clusters are known: dispatch_entropy H(cluster | expert) in nats (Chen et
///   al. 2022, arXiv:2208.02813), purity, matching, and counts [K][E]
///   top1_mass, experts_used, load_variation, load_gini, normalized_information, purity, matching
/// @param hard  one expert a sample (top-1 or stochastic)
/// @throws ArgumentError naming the layer, the labels and a value outside 0..num_classes-1, or a
///         probability that is negative, NaN or infinite
Json specialization_summary(const LayerTrace& layer, const RoutingTrace& trace, int64_t num_classes,
                            bool hard);

}  // namespace moekit::metrics
