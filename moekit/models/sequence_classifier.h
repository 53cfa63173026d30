#pragma once

#include "moekit/core/field_rule.h"
#include "moekit/models/classifier.h"
#include "moekit/nn/merged_linear.h"

namespace moekit::models {

/// A small encoder that reads an image row by row, each row a token, and whose feed-forward layers
/// are two linear layers of experts with a gate for each image (nn/merged_linear.h).
struct SequenceConfig {
  int64_t num_experts = 8;
  int64_t hidden_size = 64;
  int64_t intermediate_size = 256;
  int64_t num_blocks = 2;
  int64_t num_heads = 4;
  nn::LinearPath path = nn::LinearPath::kAuto;
  int64_t token_reduction = 0;
  KindSection<nn::RouterKinds> router;

  template <typename Field>
  void visit(Field&& field) {
    field("num_experts", num_experts, "E", at_least(1));
    field("hidden_size", hidden_size, "D of a token", at_least(1));
    field("intermediate_size", intermediate_size, "F of the feed-forward layers", at_least(1));
    field("num_blocks", num_blocks, "blocks of attention and feed-forward layers", at_least(1));
    field("num_heads", num_heads, "of the attention, divides hidden_size", at_least(1));
    field("path", path, "each chosen expert, or their merged weights once; the same to rounding");
    field("token_reduction", token_reduction,
          "bottleneck of a token-wise block before each layer of experts; 0: none", at_least(0));
    field("router", router, "");
  }
};
void check_sequence_classifier(const SequenceConfig& config, const InputShape& input,
                               const std::string& where);
std::shared_ptr<ClassifierImpl> make_sequence_classifier(const SequenceConfig& config,
                                                         const InputShape& input);

}  // namespace moekit::models
