#pragma once

#include <cstdint>
#include <string>

#include "moekit/core/enum_names.h"

namespace moekit::compress {

/// By what two experts are alike.
enum class Similarity {
  kWeights,    ///< cosine of their weights
  kOutputCka,  ///< linear CKA of their outputs on the same inputs
  kRouter,     ///< cosine of the router's logits for them, over the inputs
};

/// How alike two groups of experts are, by those of their members.
enum class Linkage {
  kAverage,   ///< mean over pairs
  kComplete,  ///< the least alike pair
  kSingle,    ///< the most alike pair
};

/// How much of each expert is in its group's mean.
enum class MergeWeights {
  kUniform,
  kUsage,      ///< inputs it was given, or where all are given to all, was the first choice of
  kSoftUsage,  ///< the weights its outputs had
};

/// What the router has for a group.
enum class RouterRepair {
  kRepresentative,  ///< what it had for the most used member
  kMean,            ///< the mean of the members' rows, weighted as the experts are
};

/// What `moekit merge` is told of the merging itself.
struct MergeOptions {
  Similarity method = Similarity::kOutputCka;
  Linkage linkage = Linkage::kAverage;
  std::int64_t keep = 0;  ///< experts that each layer has in the end
  MergeWeights weights = MergeWeights::kUsage;
  /// Exchange hidden units such that they lie as those of the most used member do; `weights` then
  /// compares experts that lie alike, too.
  bool align = false;
  RouterRepair router = RouterRepair::kRepresentative;
  /// Training samples to calibrate on; 0: 2,000, or all.
  std::int64_t samples = 0;
  std::int64_t seed = 1;  ///< draws the training samples

  template <typename Field>
  void visit(Field&& field) {
    field("method", method, "");
    field("linkage", linkage, "");
    field("keep", keep, "");
    field("weights", weights, "");
    field("align", align, "");
    field("router", router, "");
    field("samples", samples, "");
    field("seed", seed, "");
  }
};

}  // namespace moekit::compress

template <>
struct moekit::EnumNames<moekit::compress::Similarity> {
  static constexpr std::array<std::pair<compress::Similarity, std::string_view>, 3> kTable{{
      {compress::Similarity::kWeights, "weights"},
      {compress::Similarity::kOutputCka, "output_cka"},
      {compress::Similarity::kRouter, "router"},
  }};
};

template <>
struct moekit::EnumNames<moekit::compress::Linkage> {
  static constexpr std::array<std::pair<compress::Linkage, std::string_view>, 3> kTable{{
      {compress::Linkage::kAverage, "average"},
      {compress::Linkage::kComplete, "complete"},
      {compress::Linkage::kSingle, "single"},
  }};
};

template <>
struct moekit::EnumNames<moekit::compress::MergeWeights> {
  static constexpr std::array<std::pair<compress::MergeWeights, std::string_view>, 3> kTable{{
      {compress::MergeWeights::kUniform, "uniform"},
      {compress::MergeWeights::kUsage, "usage"},
      {compress::MergeWeights::kSoftUsage, "soft_usage"},
  }};
};

template <>
struct moekit::EnumNames<moekit::compress::RouterRepair> {
  static constexpr std::array<std::pair<compress::RouterRepair, std::string_view>, 2> kTable{{
      {compress::RouterRepair::kRepresentative, "representative"},
      {compress::RouterRepair::kMean, "mean"},
  }};
};
