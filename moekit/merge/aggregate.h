#pragma once

#include <cstdint>
#include <vector>

#include "moekit/nn/experts.h"

namespace moekit::merge {

/// All tensors of a model by name; those of whole numbers are counters.
using WeightSet = nn::ExpertTensors;

/// Weight sets as rows of numbers, tensor after tensor, counters left out.
struct WeightRows {
  torch::Tensor models;          ///< [K, P] float64, finite
  torch::Tensor reference;       ///< [P] float64, finite; undefined where the method needs none
  std::vector<int64_t> offsets;  ///< [T + 1], tensor t has columns offsets[t]..offsets[t+1]-1

  int64_t size() const { return models.size(0); }
};

/// What a method makes of K models. The shares, that of the reference included, sum to one.
struct Mixture {
  std::vector<double> rho;  ///< [K], from 0
  double reference = 0;     ///< share of the reference itself
  torch::Tensor values;     ///< [P] float64 where it is not the mean by `rho`; else undefined
};

/// Joins the models of K users into one. A method never sees a model that is not finite.
class Aggregator {
 public:
  virtual ~Aggregator() = default;
  /// Whether it compares models with a trusted reference.
  virtual bool needs_reference() const { return true; }
  /// Whether it looks at the models at all.
  virtual bool needs_models() const { return true; }
  /// Exchanging models exchanges their shares. @param rows  of K >= 1 models
  virtual Mixture mix(const WeightRows& rows) const = 0;
};

/// What became of K models.
struct Aggregation {
  WeightSet weights;             ///< tensors of their own
  std::vector<double> rho;       ///< [K], 0 for a refused one; zeros where all are refused
  double reference = 0;          ///< share of the reference itself
  std::vector<int64_t> refused;  ///< models with NaN or infinity, in order
};

/// Joins models. One with NaN or infinity is refused before anything is compared; where all are,
/// `current` stays. Means are taken in double and rounded once; counters are the server's: those of
/// the reference, or where there is none of `current`. No gradient flows.
/// @param models     K >= 1, with the names, sizes and types of `current` in the same order
/// @param reference  as they are; not read unless the method needs it
/// @throws ArgumentError naming the tensor that does not fit; NumericError for a reference that is
///         needed and not finite
Aggregation aggregate(const Aggregator& method, const std::vector<WeightSet>& models,
                      const WeightSet& reference, const WeightSet& current);

/// Squared L2 distance of each model to the reference, over the columns begin..end-1. @return [K]
std::vector<double> squared_distances(const WeightRows& rows, int64_t begin, int64_t end);

/// Equal shares of one to all who have the least value: the minimum of a linear function on the
/// simplex, ties apart. @param values  [K >= 1], finite
std::vector<double> shares_of_least(const std::vector<double>& values);

/// exp(score) / sum, without overflow. @param scores  [K >= 1], finite
std::vector<double> softmax_of(const std::vector<double>& scores);

}  // namespace moekit::merge
