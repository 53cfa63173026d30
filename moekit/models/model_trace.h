#pragma once

#include <filesystem>

namespace moekit::models {

/// What a published model makes of given texts, as tensors in a file, so that anyone can hold it
/// against another implementation: hidden.0 .. hidden.L [B, T, D] (what enters the first layer,
/// then each layer's output), final_norm, logits [B, T, V], loss [1] (mean cross-entropy of each
/// next token), and of every mixture l moe_in.l, moe_out.l [B, T, D], router_logits.l [B * T, E],
/// experts.l [B * T, K] int32 in ascending order and weights.l; with "new_tokens" generated [B, n]
/// int32, the likeliest each, and generated_logits [B, n, V]; with "padded" padded.logits and
/// padded.generated.
/// @param ids  JSON: {"input_ids": [[...], ...], "new_tokens": n, "padded": {"input_ids": ...,
///             "attention_mask": ...}}, the last two not needed
/// @throws FormatError, IoError, ArgumentError: before anything is computed
void write_model_trace(const std::filesystem::path& model, const std::filesystem::path& ids,
                       const std::filesystem::path& output);

}  // namespace moekit::models
