#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "moekit/core/enum_names.h"
#include "moekit/core/field_rule.h"
#include "moekit/data/image_dataset.h"

namespace moekit::data {

/// Which of the 2K vectors are orthogonal to each other.
enum class ClusterVectors {
  kOrthonormal,    ///< all of them: what the theory asks for
  kWithinCluster,  ///< only v_k and c_k of one k: a wrong generator, as a negative control
};

/// Options of `make_cluster_patch`.
struct ClusterPatchOptions {
  int64_t num_train = 16000;
  int64_t num_test = 16000;
  int64_t num_clusters = 4;              ///< K, 2..dim/2
  int64_t num_patches = 4;               ///< P, at least 3
  int64_t dim = 50;                      ///< d
  std::vector<double> alpha = {0.5, 2};  ///< D_alpha, uniform: length of the label signal
  std::vector<double> beta = {1, 2};     ///< D_beta: of the centre signal
  std::vector<double> gamma = {0.5, 3};  ///< D_gamma: of the label signal of another cluster
  double noise = 1;                      ///< sigma_p: noise patches are N(0, sigma_p^2 / d I)
  double input_scale = 10;               ///< all inputs are multiplied by it
  ClusterVectors vectors = ClusterVectors::kOrthonormal;

  /// @param where  stands before the names of options in messages. @throws ArgumentError
  void check(const std::string& where) const;
  template <typename Field>
  void visit(Field&& field) {
    field("num_train", num_train, "", at_least(1));
    field("num_test", num_test, "", at_least(1));
    field("num_clusters", num_clusters, "K, 2..dim/2", at_least(1));
    field("num_patches", num_patches, "P, at least 3", at_least(3));
    field("dim", dim, "d", at_least(1));
    field("alpha", alpha, "range of the label signal's length", at_least(0));
    field("beta", beta, "range of the centre signal's length", at_least(0));
    field("gamma", gamma, "range of the feature noise's length", at_least(0));
    field("noise", noise, "sigma_p of the noise patches", at_least(0));
    field("input_scale", input_scale, "factor on all inputs", above(0));
    field("vectors", vectors, "which vectors are orthogonal to each other");
  }
};

/// Binary classification with K hidden clusters. A sample of cluster k with label y in {-1, +1}
/// holds, in random order, y alpha v_k, beta c_k, eps gamma v_k' of another cluster k' with a
/// random sign eps, and P - 3 patches of noise; v_1..v_K, c_1..c_K are orthonormal. Images are
/// [1, P, d] float32; label 0 is y = -1. `directions` holds "label" (v) and "centre" (c), [K, d];
/// the true clusters are kept.
/// Source: Chen et al. 2022, arXiv:2208.02813, data distribution (definition 3.1); the factor on
/// the inputs is from the released code.
/// @throws ArgumentError naming the option and its value.
ImageDataset make_cluster_patch(const ClusterPatchOptions& options, uint64_t seed);

}  // namespace moekit::data

template <>
struct moekit::EnumNames<moekit::data::ClusterVectors> {
  static constexpr std::array<std::pair<data::ClusterVectors, std::string_view>, 2> kTable{{
      {data::ClusterVectors::kOrthonormal, "orthonormal"},
      {data::ClusterVectors::kWithinCluster, "within_cluster"},
  }};
};
