#pragma once

#include <torch/types.h>

#include <limits>
#include <string>
#include <string_view>

/// What metrics ask of their arguments. No metric counts an id outside its range, nor goes on with
/// NaN: it refuses, naming the first such value and its place. Tokens without a label (-100, or
/// whatever marks them) are for the caller to leave out.
namespace moekit::metrics {

/// What is wrong with ids that must be int64 in 0..end-1: "has -100 at [3]; wanted 0..9". Empty
/// when nothing is.
std::string id_fault(const torch::Tensor& ids, int64_t end);

/// The same of numbers that must be finite and at least `least`: "has nan at [0, 2]; wanted finite
/// numbers".
std::string number_fault(const torch::Tensor& values,
                         double least = -std::numeric_limits<double>::infinity());

/// @throws ArgumentError "WHO: WHAT " and the fault, when there is one
void check_ids(std::string_view who, std::string_view what, const torch::Tensor& ids, int64_t end);
void check_numbers(std::string_view who, std::string_view what, const torch::Tensor& values,
                   double least = -std::numeric_limits<double>::infinity());

/// Probabilities of routers. @throws ArgumentError unless they are [N, E] with E >= 1, finite and
/// not negative
void check_probs(std::string_view who, const torch::Tensor& probs);

}  // namespace moekit::metrics
