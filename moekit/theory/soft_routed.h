#pragma once

#include <torch/types.h>

#include <cstdint>
#include <vector>

#include "moekit/data/sets/soft_routed_teacher.h"

/// A student that learns a soft-routed teacher (`data/sets/soft_routed_teacher.h`), small enough to
/// watch each weight. Source: Liao, Kyrillidis 2025, arXiv:2510.07205; initial weights are
/// inferred.
namespace moekit::theory {

using data::make_teacher;
using data::SoftGate;
using data::SoftRouted;

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
