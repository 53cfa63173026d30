#pragma once

#include <cstdint>
#include <string>

#include "moekit/core/enum_names.h"
#include "moekit/core/field_rule.h"
#include "moekit/data/image_dataset.h"

namespace moekit::data {

enum class SoftGate {
  kSigmoid,  ///< pi(w.x) of each pair alone
  kSoftmax,  ///< softmax over all pairs
};

/// A mixture whose every expert is active, of pairs of a router neuron w and an expert neuron v:
/// f(x) = sum_j gate_j(x) h3(v_j.x) with unit rows w_j, v_j and h3(z) = (z^3 - 3 z) / sqrt 6.
/// Source: Liao, Kyrillidis 2025, arXiv:2510.07205. The exact model of the paper could not be read:
/// gate and activation scale are a reconstruction that fits the stated facts [inferred].
struct SoftRouted {
  torch::Tensor w;  ///< [m, d], router
  torch::Tensor v;  ///< [m, d], experts
  SoftGate gate = SoftGate::kSigmoid;

  int64_t size() const { return w.size(0); }
  /// Each pair's part of the output. @param x [N, d] @return [N, m]
  torch::Tensor parts(const torch::Tensor& x) const;
  /// @return [N]
  torch::Tensor forward(const torch::Tensor& x) const { return parts(x).sum(1); }
  /// The pairs of these indices. @param index [m'] int64
  SoftRouted select(const torch::Tensor& index) const;
};

/// h3 and its derivative, element by element.
torch::Tensor hermite3(const torch::Tensor& z);
torch::Tensor hermite3_slope(const torch::Tensor& z);
/// Gates of scores w.x [N, m].
torch::Tensor soft_gate(const torch::Tensor& scores, SoftGate gate);

/// m* pairs whose 2 m* vectors are orthonormal. @throws ArgumentError unless 1 <= 2 m* <= d.
SoftRouted make_teacher(int64_t pairs, int64_t dim, SoftGate gate, const at::Generator& generator);

/// Options of `make_soft_routed_set`.
struct SoftRoutedSetOptions {
  int64_t num_train = 16000;
  int64_t num_test = 16000;
  int64_t dim = 16;   ///< d
  int64_t pairs = 2;  ///< m*, at most dim / 2
  SoftGate gate = SoftGate::kSigmoid;

  /// @param where  stands before the names of options in messages. @throws ArgumentError
  void check(const std::string& where) const;
  template <typename Field>
  void visit(Field&& field) {
    field("num_train", num_train, "", at_least(1));
    field("num_test", num_test, "", at_least(1));
    field("dim", dim, "d of the Gaussian inputs", at_least(1));
    field("pairs", pairs, "m*, at most dim / 2", at_least(1));
    field("gate", gate, "of the teacher's router neurons");
  }
};

/// What a soft-routed teacher says about Gaussian inputs, as a classification: x ~ N(0, I_d) as
/// "images" [1, 1, d], label 1 where f*(x) > 0, and as true cluster the pair whose part of f* is
/// the largest in size. `directions` holds "router" (w*) and "expert" (v*), [m*, d].
/// @throws ArgumentError naming the option and its value.
ImageDataset make_soft_routed_set(const SoftRoutedSetOptions& options, uint64_t seed);

}  // namespace moekit::data

template <>
struct moekit::EnumNames<moekit::data::SoftGate> {
  static constexpr std::array<std::pair<data::SoftGate, std::string_view>, 2> kTable{{
      {data::SoftGate::kSigmoid, "sigmoid"},
      {data::SoftGate::kSoftmax, "softmax"},
  }};
};
