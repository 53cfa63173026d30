#pragma once

#include "moekit/tasks/merged_linear/config.h"

namespace moekit::merged_linear {

/// Linear layers of experts, merged against routed: the summary of what the recipe asks for.
/// Source: He et al. 2023, arXiv:2310.09832.
Json measure(const Config& config);

}  // namespace moekit::merged_linear
