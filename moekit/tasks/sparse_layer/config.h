#pragma once

#include <cstdint>
#include <string>

#include "moekit/core/config.h"
#include "moekit/core/field_rule.h"

namespace moekit::sparse_layer {

struct LayerConfig {
  int64_t hidden_size = 32;
  int64_t intermediate_size = 48;
  int64_t num_experts = 16;
  int64_t top_k = 2;
  int64_t tokens = 256;
  int64_t slots_per_expert = 2;
  int64_t vocabulary = 257;

  template <typename Field>
  void visit(Field&& field) {
    field("hidden_size", hidden_size, "D of a token", at_least(1));
    field("intermediate_size", intermediate_size, "F of an expert", at_least(1));
    field("num_experts", num_experts, "E", at_least(2, 1024));
    field("top_k", top_k, "experts a token is sent to", at_least(1));
    field("tokens", tokens, "of the batch, a multiple of num_experts", at_least(1, 2048));
    field("slots_per_expert", slots_per_expert, "of the soft mixture", at_least(1, 64));
    field("vocabulary", vocabulary, "of the hash router", at_least(1, 1e6));
  }
};

/// A recipe of `task = "sparse_layer"`.
struct Config {
  std::string task = "sparse_layer";
  int64_t seed = 1;
  int64_t threads = 1;
  LayerConfig layer;

  template <typename Field>
  void visit(Field&& field) {
    field("task", task, "what kind of run this is");
    field("seed", seed, "of every random choice", at_least(0, kAnySeed));
    field("threads", threads, "", at_least(1, kMostThreads));
    field("layer", layer, "");
  }
};

/// @throws ArgumentError naming the key
void validate(const Config& config);

}  // namespace moekit::sparse_layer
