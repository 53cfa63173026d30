#pragma once

#include <cstdint>

namespace moekit::metrics {

/// A BERT-like encoder with a masked-language-model head, whose feed-forward layers are two linear
/// layers of experts each.
struct EncoderShape {
  int64_t num_layers = 12;           ///< D
  int64_t hidden_size = 768;         ///< h
  int64_t intermediate_size = 3072;  ///< f
  int64_t sequence_length = 128;     ///< L
  int64_t vocabulary = 30522;        ///< V
};

/// Operations of one sequence, 2 a multiply-add, with m experts for each linear layer:
///   m * 4 D h f L  +  8 D h^2 L + 4 D h L^2  +  2 V h L + 2 h^2 L
/// feed-forward layers, attention (projections, then scores and sums), head. Routers, embeddings
/// and what is no product are left out.
/// Source: inferred; gives He et al. 2023, arXiv:2310.09832, their 72.0 GFLOPs for BERT-base, m
/// = 4.
/// @throws ArgumentError for a size below 1, or `selected` below 1
double routed_encoder_operations(const EncoderShape& shape, int64_t selected);

/// The same with the experts merged into one: feed-forward layers of one expert, and
/// c * m * 2 D h f for merging, where c = 1 counts the multiply-adds of sum_i g_i W_i once and
/// c = 2 twice. @param merge_cost c
double merged_encoder_operations(const EncoderShape& shape, int64_t selected, double merge_cost);

}  // namespace moekit::metrics
