#pragma once

#include <torch/types.h>

#include <cstdint>
#include <vector>

#include "moekit/core/enum_names.h"

/// A mixture whose every expert is active, small enough to watch each weight: student and teacher
/// are sums of pairs of a router neuron w and an expert neuron v.
/// Source: Liao, Kyrillidis 2025, arXiv:2510.07205. The exact model of the paper could not be read:
/// gate, activation scale and initial weights are a reconstruction that fits the stated facts
/// [inferred].
namespace moekit::theory {

enum class SoftGate {
  kSigmoid,  ///< pi(w.x) of each pair alone
  kSoftmax,  ///< softmax over all pairs
};

/// f(x) = sum_j gate_j(x) h3(v_j.x) with unit rows w_j, v_j and h3(z) = (z^3 - 3 z) / sqrt 6.
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

/// m* pairs whose 2 m* vectors are orthonormal. @throws ArgumentError unless 1 <= 2 m* <= d.
SoftRouted make_teacher(int64_t pairs, int64_t dim, SoftGate gate, const at::Generator& generator);

/// m pairs, uniform on the sphere.
SoftRouted make_student(int64_t pairs, int64_t dim, SoftGate gate, const at::Generator& generator);

/// As many pairs as the teacher's, each with overlap 1/sqrt d with its own teacher pair; the rest
/// of each vector is random and orthogonal to all of the teacher's.
SoftRouted make_overlapping_student(const SoftRouted& teacher, const at::Generator& generator);

/// Gradients of L = 1/2 E (f - f*)^2 over the samples x, in closed form.
struct SoftGradient {
  torch::Tensor w;  ///< [m, d]: E[r gate' h3(v.x) x]
  torch::Tensor v;  ///< [m, d]: E[r gate h3'(v.x) x]
  double loss = 0;
};
/// @param target  f*(x), [N]
SoftGradient soft_gradient(const SoftRouted& student, const torch::Tensor& x,
                           const torch::Tensor& target);

/// Moves unit rows along the sphere: projects the gradient on the tangent space, steps,
/// renormalises. In place.
void spherical_step(torch::Tensor& rows, const torch::Tensor& gradient, double step);

/// 1/2 mean (f - f*)^2, summed in double. @param x [N, d]
double soft_loss(const SoftRouted& student, const SoftRouted& teacher, const torch::Tensor& x);

/// Overlaps with the teacher: per teacher pair the largest v_j.v_i*, the student j that has it, and
/// that student's w_j.w_i*.
struct OrderParameters {
  std::vector<double> rho_v;
  std::vector<double> rho_w;
  std::vector<int64_t> student;
  /// Whether every teacher pair has a student of its own.
  bool distinct() const;
};
OrderParameters order_parameters(const SoftRouted& student, const SoftRouted& teacher);

/// Takes out redundant pairs. h3 is odd, so they end up in couples that cancel (v_k = -v_l, w_k =
/// w_l): the couple with v_k.v_l < -0.9 and the smallest E (f_k + f_l)^2 is removed, again and
/// again, until `keep` pairs or no couple is left. The paper's own criterion was not found
/// [inferred]. @return the kept indices, rising
std::vector<int64_t> prune_cancelling_pairs(const SoftRouted& student, const torch::Tensor& x,
                                            int64_t keep);

}  // namespace moekit::theory

template <>
struct moekit::EnumNames<moekit::theory::SoftGate> {
  static constexpr std::array<std::pair<theory::SoftGate, std::string_view>, 2> kTable{{
      {theory::SoftGate::kSigmoid, "sigmoid"},
      {theory::SoftGate::kSoftmax, "softmax"},
  }};
};
