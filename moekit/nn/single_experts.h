#pragma once

#include <string>

#include "moekit/nn/experts.h"

namespace moekit::nn {

/// Why one expert of a bank cannot be taken for itself, to be merged, frozen or added: a parameter
/// that has no row for each expert, as where experts of several kinds stand in one bank. Empty
/// where each has rows or a module of its own, beside what all of them share.
std::string why_not_single(const ExpertsImpl& experts);

}  // namespace moekit::nn
