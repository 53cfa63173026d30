#pragma once

#include <torch/types.h>

namespace moekit::metrics {

/// Base of the logarithm: 2 for bits, e for nats.
enum class LogBase { kBits, kNats };

/// -sum p log p of a vector of non-negative weights, which are normalised first. 0 log 0 = 0; 0
/// for a vector without mass. @param weights [E] @throws ArgumentError naming a value that is
/// negative, NaN or infinite
double entropy(const torch::Tensor& weights, LogBase base = LogBase::kBits);

/// How labels and experts go together, from their joint table. All entropies in `base`.
/// Identity: H(L) - H(L|E) = H(E) - H(E|L) = I(E;L).
struct LabelAlignment {
  double mutual_information;  ///< I(E;L), 0 .. min(H(E), H(L))
  double expert_entropy;      ///< H(E), the usage entropy of the table
  double label_entropy;       ///< H(L)
  double label_given_expert;  ///< H(L|E), "dispatch entropy": 0 when an expert sees one label only
  double expert_given_label;  ///< H(E|L): 0 when a label goes to one expert only
  double normalized;          ///< I / min(H(E), H(L)), 0 where that is 0
};

/// @param table [L, E] counts or probability mass, as `entropy` takes them, here and below. All 0
/// for an empty table.
LabelAlignment label_alignment(const torch::Tensor& table, LogBase base = LogBase::kBits);

/// Hard table: how many tokens of label l were sent to expert e, over all K choices.
/// @param labels [N] int64 @param expert_index [N, K] or [N] int64
/// @return [num_labels, E] float64
/// @throws ArgumentError for other shapes, a table of more than 2^26 cells, and naming a label or
///         expert outside its range: tokens without a label, often -100, are left out before.
torch::Tensor label_expert_counts(const torch::Tensor& labels, const torch::Tensor& expert_index,
                                  int64_t num_labels, int64_t num_experts);

/// Soft table: the router's probability mass of label l on expert e. @param probs [N, E], finite
/// and not negative @throws as `label_expert_counts`
torch::Tensor label_expert_mass(const torch::Tensor& labels, const torch::Tensor& probs,
                                int64_t num_labels);

/// Expected I(E;L) of a random assignment with the same margins, first order in 1/N:
/// (L - 1)(E - 1) / (2 N) nats, over non-empty labels and experts (Miller-Madow).
double mutual_information_baseline(const torch::Tensor& table, LogBase base = LogBase::kBits);

/// Share of the mass that lies on each expert's most frequent label, 0..1. 0 for an empty table.
/// Its random baseline is the share of the most frequent label.
double purity(const torch::Tensor& table);
double purity_baseline(const torch::Tensor& table);

/// Best one-to-one matching of labels and experts: share of the mass on matched pairs, 0..1.
/// Solved exactly (Hungarian method, Kuhn 1955); with L != E the rest stays unmatched.
double best_matching(const torch::Tensor& table);

}  // namespace moekit::metrics
