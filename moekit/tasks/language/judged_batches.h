#pragma once

#include <functional>

#include "moekit/models/decoder.h"
#include "moekit/tasks/language/config.h"
#include "moekit/tasks/language/text_data.h"

namespace moekit::language {

/// Judged windows of one domain, and what a model makes of them.
struct JudgedBatch {
  size_t domain = 0;
  Windows windows;
  models::DecoderOutput output;  ///< without logits
};

/// Runs a model, in evaluation and without gradients, over `count` judged windows of each domain,
/// `batch` of them at a time: the memory of attention and of experts grows with them.
void for_judged(models::DecoderImpl& model, const TextData& data, const Config& config,
                int64_t count, int64_t batch, const std::function<void(const JudgedBatch&)>& work);

}  // namespace moekit::language
