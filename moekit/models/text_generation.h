#pragma once

#include <torch/types.h>

#include <functional>
#include <set>
#include <string_view>
#include <vector>

#include "moekit/core/json.h"
#include "moekit/text/generation.h"
#include "moekit/text/tokenizer.h"

namespace moekit::models {

/// Logits [V] in float32 of the token behind `ids`, which come behind all that were given before.
using NextLogits = std::function<torch::Tensor(const std::vector<int32_t>& ids)>;

/// Goes on with a text, token by token.
/// @param ids   of the prompt, at least one
/// @param ends  tokens that end a text
/// @param sink  takes pieces of the text as they come
/// @return text, prompt_tokens, tokens, ended_by ("tokens", "end of text", "stop"),
///         tokens_per_second
Json generate_text(const text::Tokenizer& tokenizer, const std::vector<int32_t>& ids,
                   const std::set<int32_t>& ends, const text::GenerationOptions& options,
                   const NextLogits& next_logits,
                   const std::function<void(std::string_view)>& sink);

}  // namespace moekit::models
