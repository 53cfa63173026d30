#pragma once

#include "moekit/core/config.h"
#include "moekit/nn/gate_units.h"

namespace moekit::merged_linear {

/// The layer that is measured, D -> F, and its input.
struct LayerConfig {
  int64_t num_experts = 16;
  int64_t top_k = 4;
  int64_t hidden_size = 256;
  int64_t intermediate_size = 1024;
  bool bias = true;
  nn::GateUnit unit = nn::GateUnit::kSequence;
  int64_t token_reduction = 0;
  int64_t sequences = 8;
  int64_t length = 128;
  double masked = 0;

  template <typename Field>
  void visit(Field&& field) {
    field("num_experts", num_experts, "E", at_least(1));
    field("top_k", top_k, "experts of a gate, 1..num_experts", at_least(1));
    field("hidden_size", hidden_size, "D of a token", at_least(1));
    field("intermediate_size", intermediate_size, "F, values of an expert's output", at_least(1));
    field("bias", bias, "whether the experts have one");
    field("unit", unit, "whose tokens share a gate");
    field("token_reduction", token_reduction,
          "bottleneck of a token-wise block before the layer; 0: none", at_least(0));
    field("sequences", sequences, "B", at_least(1));
    field("length", length, "tokens of a sequence", at_least(1));
    field("masked", masked, "share of the tokens that are masked, drawn", at_least(0).below(1));
  }
};

/// How long both paths take, for the feed-forward layer D -> F -> D.
struct LatencyConfig {
  int64_t runs = 0;
  double seconds = 0;

  template <typename Field>
  void visit(Field&& field) {
    field("runs", runs, "at least so many of each path; 0: time is not taken", at_least(0));
    field("seconds", seconds, "at least so long", at_least(0));
  }
};

/// The whole network whose operations are worked out by formula (metrics/encoder_operations.h).
struct EncoderConfig {
  int64_t num_layers = 12;
  int64_t hidden_size = 768;
  int64_t intermediate_size = 3072;
  int64_t length = 128;
  int64_t vocabulary = 30522;
  int64_t selected = 0;

  template <typename Field>
  void visit(Field&& field) {
    field("num_layers", num_layers, "of the encoder", at_least(1));
    field("hidden_size", hidden_size, "", at_least(1));
    field("intermediate_size", intermediate_size, "", at_least(1));
    field("length", length, "tokens of a sequence", at_least(1));
    field("vocabulary", vocabulary, "of the head", at_least(1));
    field("selected", selected, "experts chosen in each linear layer; 0: not worked out",
          at_least(0));
  }
};

/// A recipe of `task = "merged_linear"`.
struct Config {
  std::string task = "merged_linear";
  int64_t seed = 1;
  int64_t threads = 1;
  bool equality = true;
  LayerConfig layer;
  LatencyConfig latency;
  EncoderConfig encoder;

  template <typename Field>
  void visit(Field&& field) {
    field("task", task, "what kind of run this is");
    field("seed", seed, "of weights, values, masks and tasks", at_least(0, kAnySeed));
    field("threads", threads, "", at_least(1, kMostThreads));
    field("equality", equality, "hold values, gradients and operations of both paths together");
    field("layer", layer, "");
    field("latency", latency, "");
    field("encoder", encoder, "");
  }
};

/// @throws ArgumentError naming the key.
void validate(const Config& config);

}  // namespace moekit::merged_linear
