#pragma once

#include "moekit/core/json.h"
#include "moekit/tasks/language/config.h"
#include "moekit/tasks/language/text_data.h"

namespace moekit::language {

/// Refuses a model whose every expert computes, or whose tokens choose more experts than compute.
/// @throws ArgumentError naming the key
void check_expert_time(models::DecoderImpl& model);

/// How long the experts of all mixtures take for a batch of judged texts, dropless, and how long if
/// the same tokens chose among the experts that compute alone, as many each: what experts without
/// computation save. Both take turns, `runs` times in each mixture; their medians are added up.
/// "tokens", "milliseconds", "computing_milliseconds" and "gain", the second over the first,
/// less 1. Source of the gain: Jin et al. 2024, arXiv:2410.07348, table 3 (expert forward time).
Json expert_time(models::DecoderImpl& model, const TextData& data, const Config& config,
                 int64_t runs);

}  // namespace moekit::language
