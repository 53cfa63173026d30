#include "moekit/theory/soft_routed.h"

#include <algorithm>
#include <cmath>
#include <set>

#include "moekit/core/error.h"

namespace moekit::theory {
namespace {

constexpr double kCancelling = -0.9;

torch::Tensor unit_rows(const torch::Tensor& rows) { return rows / rows.norm(2, 1, true); }

torch::Tensor random_rows(int64_t count, int64_t dim, const at::Generator& generator) {
  return torch::empty({count, dim}, torch::kFloat64).normal_(0, 1, generator);
}

void check_sizes(int64_t pairs, int64_t dim) {
  MOEKIT_CHECK(pairs >= 1 && dim >= 1,
               "soft-routed mixture: pairs and dim must be at least 1; got ", pairs, " and ", dim);
}

}  // namespace

SoftRouted make_student(int64_t pairs, int64_t dim, SoftGate gate, const at::Generator& generator) {
  check_sizes(pairs, dim);
  const auto draw = [&] {
    return unit_rows(random_rows(pairs, dim, generator)).to(torch::kFloat32);
  };
  const auto w = draw();
  return {w, draw(), gate};
}

SoftRouted make_overlapping_student(const SoftRouted& teacher, const at::Generator& generator) {
  const int64_t dim = teacher.w.size(1);
  MOEKIT_CHECK(2 * teacher.size() < dim, "soft-routed student: overlap init needs 2 pairs < dim; ",
               "got pairs ", teacher.size(), ", dim ", dim);
  const auto known = torch::cat({teacher.w, teacher.v}).to(torch::kFloat64);
  const double overlap = 1 / std::sqrt(static_cast<double>(dim));
  const auto place = [&](const torch::Tensor& own) {
    auto rest = random_rows(own.size(0), dim, generator);
    rest = unit_rows(rest - rest.matmul(known.t()).matmul(known));
    return unit_rows(own.to(torch::kFloat64) * overlap + rest * std::sqrt(1 - overlap * overlap))
        .to(torch::kFloat32);
  };
  const auto w = place(teacher.w);
  return {w, place(teacher.v), teacher.gate};
}

SoftGradient soft_gradient(const SoftRouted& student, const torch::Tensor& x,
                           const torch::Tensor& target) {
  const auto gate = data::soft_gate(x.matmul(student.w.t()), student.gate);  // [N, m]
  const auto z = x.matmul(student.v.t());
  const auto h = data::hermite3(z);
  const auto f = (gate * h).sum(1, /*keepdim=*/true);
  const auto r = (f - target.unsqueeze(1)) / static_cast<double>(x.size(0));
  // d f / d (w_j.x): gate (1 - gate) h_j for sigmoids, gate_j (h_j - f) for a softmax.
  const auto by_gate = student.gate == SoftGate::kSigmoid ? gate * (1 - gate) * h : gate * (h - f);
  SoftGradient out;
  out.w = (r * by_gate).t().matmul(x);
  out.v = (r * gate * data::hermite3_slope(z)).t().matmul(x);
  out.loss = 0.5 * (f.squeeze(1) - target).square().mean().item<double>();
  return out;
}

void spherical_step(torch::Tensor& rows, const torch::Tensor& gradient, double step) {
  const auto tangent = gradient - (gradient * rows).sum(1, true) * rows;
  rows = unit_rows(rows - step * tangent);
}

double soft_loss(const SoftRouted& student, const SoftRouted& teacher, const torch::Tensor& x) {
  const auto in_double = [](const SoftRouted& model) {
    return SoftRouted{model.w.to(torch::kFloat64), model.v.to(torch::kFloat64), model.gate};
  };
  const auto samples = x.to(torch::kFloat64);
  const auto gap = in_double(student).forward(samples) - in_double(teacher).forward(samples);
  return 0.5 * gap.square().mean().item<double>();
}

bool OrderParameters::distinct() const {
  return std::set<int64_t>(student.begin(), student.end()).size() == student.size();
}

OrderParameters order_parameters(const SoftRouted& student, const SoftRouted& teacher) {
  const auto v = student.v.matmul(teacher.v.t()).to(torch::kFloat64);  // [m, m*]
  const auto w = student.w.matmul(teacher.w.t()).to(torch::kFloat64);
  OrderParameters out;
  for (int64_t i = 0; i < teacher.size(); ++i) {
    const int64_t best = v.select(1, i).argmax().item<int64_t>();
    out.student.push_back(best);
    out.rho_v.push_back(v[best][i].item<double>());
    out.rho_w.push_back(w[best][i].item<double>());
  }
  return out;
}

std::vector<int64_t> prune_cancelling_pairs(const SoftRouted& student, const torch::Tensor& x,
                                            int64_t keep) {
  std::vector<int64_t> kept;
  for (int64_t j = 0; j < student.size(); ++j) kept.push_back(j);
  const auto products = student.v.matmul(student.v.t());
  const auto parts = student.parts(x);
  while (static_cast<int64_t>(kept.size()) >= keep + 2) {
    double smallest = 0;
    std::pair<int64_t, int64_t> couple{-1, -1};
    for (size_t a = 0; a < kept.size(); ++a) {
      for (size_t b = a + 1; b < kept.size(); ++b) {
        if (products[kept[a]][kept[b]].item<double>() >= kCancelling) continue;
        const double rest =
            (parts.select(1, kept[a]) + parts.select(1, kept[b])).square().mean().item<double>();
        if (couple.first < 0 || rest < smallest) {
          smallest = rest;
          couple = {kept[a], kept[b]};
        }
      }
    }
    if (couple.first < 0) break;
    kept.erase(std::remove_if(kept.begin(), kept.end(),
                              [&](int64_t j) { return j == couple.first || j == couple.second; }),
               kept.end());
  }
  return kept;
}

}  // namespace moekit::theory
